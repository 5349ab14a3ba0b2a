"""What a measurement found: medians with their quartiles, and below them the bounds wanted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median, quantiles
from typing import Any, ClassVar, Final, Protocol

Samples = Mapping[str, Sequence[float]]

_AT: Final = " at "


@dataclass(frozen=True)
class Row:
    """A bound, and how it stands here."""

    kind: str
    what: str
    here: float | None  # None: it was not measured
    shown: str
    wanted: str  # empty if it is only told
    met: bool | None

    def cells(self) -> tuple[str, ...]:
        if self.here is None:
            verdict = "not measured"
        else:
            verdict = {True: "met", False: "NOT MET", None: ""}[self.met]
        return self.what, self.shown, self.wanted or "-", verdict


class Bound(Protocol):
    """Something about medians that is wanted, or only told."""

    def row(self, samples: Samples) -> Row: ...


def _row(
    kind: str,
    what: str,
    medians: Sequence[float | None],
    here: Callable[..., float],
    shown: str,
    bound: float | None,
    at_least: bool = False,
) -> Row:
    wanted = "" if bound is None else f"{'>=' if at_least else '<='} {bound:g}"
    if None in medians:
        return Row(kind, what, None, "-", wanted, None)
    value = here(*medians)
    met = None if bound is None else value >= bound if at_least else value <= bound
    return Row(kind, what, value, format(value, shown), wanted, met)


def _median(samples: Samples, name: str) -> float | None:
    return median(samples[name]) if samples.get(name) else None


@dataclass(frozen=True)
class Wanted:
    """A bound on the median of `subject`, as a multiple of that of `reference`."""

    subject: str
    reference: str
    bound: float | None = None
    at_least: bool = False

    kind: ClassVar[str] = "ratio of medians"

    def row(self, samples: Samples) -> Row:
        medians = [_median(samples, self.subject), _median(samples, self.reference)]
        what = f"{self.subject} / {self.reference}"
        return _row(self.kind, what, medians, lambda a, b: a / b, ".3f", self.bound, self.at_least)


@dataclass(frozen=True)
class Beyond:
    """A bound on what the median of `subject` is more than that of `reference`."""

    subject: str
    reference: str
    bound: float | None = None

    kind: ClassVar[str] = "difference of medians"

    def row(self, samples: Samples) -> Row:
        medians = [_median(samples, self.subject), _median(samples, self.reference)]
        what = f"{self.subject} - {self.reference}"
        return _row(self.kind, what, medians, lambda a, b: a - b, ",.1f", self.bound)


@dataclass(frozen=True)
class AtMost:
    """A bound on the median of `subject` itself."""

    subject: str
    bound: float

    kind: ClassVar[str] = "median"

    def row(self, samples: Samples) -> Row:
        medians = [_median(samples, self.subject)]
        return _row(self.kind, self.subject, medians, lambda a: a, ",.1f", self.bound)


def at(subject: str, number: int) -> str:
    """The name of a subject's samples where they were taken at several numbers of something."""
    return f"{subject}{_AT}{number}"


@dataclass(frozen=True)
class Table:
    """Everything about one measurement."""

    title: str
    unit: str
    samples: Samples
    wanted: Sequence[Bound] = ()
    note: str = ""
    across: str = ""  # what there are several numbers of, if the samples are named by `at`

    def text(self) -> str:
        """For people."""
        medians = [(self.unit, "median", "quartiles")]
        for name, values in self.samples.items():
            if values:
                low, middle, high = _quartiles(values)
                medians.append((name, f"{middle:,.1f}", f"{low:,.1f} .. {high:,.1f}"))
            else:
                medians.append((name, "-", "not measured"))
        lines = [self.title, *([f"  {self.note}"] if self.note else []), *_aligned(medians)]
        for kind, rows in groupby(self._rows(), lambda row: row.kind):
            lines += ["", *_aligned([(kind, "here", "wanted", ""), *(row.cells() for row in rows)])]
        return "\n".join(lines)

    def data(self) -> dict[str, Any]:
        """For programs: what json.dump takes."""
        medians = []
        for name, values in self.samples.items():
            subject, number = name, None
            if self.across:
                subject, _, after = name.rpartition(_AT)
                number = int(after)
            low, middle, high = _quartiles(values) if values else [None] * 3
            medians.append(
                {
                    "name": name,
                    "subject": subject,
                    "at": number,
                    "samples": len(values),
                    "median": middle,
                    "quartiles": [low, high],
                }
            )
        rows = [
            {
                "kind": row.kind,
                "what": row.what,
                "here": row.here,
                "wanted": row.wanted,
                "met": row.met,
            }
            for row in self._rows()
        ]
        return {
            "title": self.title,
            "note": self.note,
            "unit": self.unit,
            "across": self.across,
            "medians": medians,
            "rows": rows,
        }

    def _rows(self) -> list[Row]:
        return [each.row(self.samples) for each in self.wanted]


def _quartiles(values: Sequence[float]) -> list[float]:
    return quantiles(values, n=4) if len(values) > 1 else [*values] * 3


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[0] = max(widths[0], 36)
    lines = []
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  " + "  ".join((first.ljust(widths[0]), *cells)).rstrip())
    return lines
