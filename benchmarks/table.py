"""Tables: medians with their quartiles, and below them the ratios that are wanted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

Samples = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Wanted:
    """A bound on the median of `subject`, as a multiple of that of `reference`."""

    subject: str
    reference: str
    bound: float
    at_least: bool = False

    def row(self, samples: Samples) -> tuple[str, ...]:
        what = f"{self.subject} / {self.reference}"
        sign = ">=" if self.at_least else "<="
        wanted = f"{sign} {self.bound:g}"
        if not (samples.get(self.subject) and samples.get(self.reference)):
            return what, "-", wanted, "not measured"
        ratio = median(samples[self.subject]) / median(samples[self.reference])
        met = ratio >= self.bound if self.at_least else ratio <= self.bound
        return what, f"{ratio:.3f}", wanted, "met" if met else "NOT MET"


def report(title: str, unit: str, samples: Samples, wanted: Iterable[Wanted]) -> str:
    """Everything about one measurement."""
    medians = [(unit, "median", "quartiles")]
    for name, values in samples.items():
        low, middle, high = quantiles(values, n=4) if len(values) > 1 else [*values] * 3
        medians.append((name, f"{middle:,.1f}", f"{low:,.1f} .. {high:,.1f}"))
    lines = [title, *_aligned(medians)]
    if ratios := [each.row(samples) for each in wanted]:
        lines += ["", *_aligned([("ratio of medians", "here", "wanted", ""), *ratios])]
    return "\n".join(lines)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = max(widths[0], 36)
    lines = []
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  " + "  ".join((first.ljust(widths[0]), *cells)).rstrip())
    return lines
