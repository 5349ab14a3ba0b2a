"""`python -m benchmarks.plot FILE.json [FILE.json ...] --out DIRECTORY`: draw what was measured.

Draws each table that was measured at several numbers of something, one line for each subject, as an
SVG file that is readable on dark and on light backgrounds. FILE is what `python -m benchmarks
--json FILE` has written; of two with the same Python, the later one is drawn.
"""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from .subjects import ASYNCIO, OURS, OURS_BLOCKING, POSIX_SPAWN, SUBPROCESS

NAMES: Final = ("live", "open")  # of measurements

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 70, 190, 40, 50  # the margins; the legend is on the right

# All of them of a middle lightness.
INK: Final = "#757d85"
COLOURS: Final = {
    OURS: "#2f8fd8",
    OURS_BLOCKING: "#2fa3a3",
    ASYNCIO: "#e0782f",
    SUBPROCESS: "#3fa35c",
    POSIX_SPAWN: "#a06fd0",
}

Points = list[tuple[float, float]]


def lines(table: dict[str, Any]) -> dict[str, Points]:
    """The medians, by subject."""
    found: dict[str, Points] = {}
    for each in table["medians"]:
        if each["median"] is not None:
            found.setdefault(each["subject"], []).append((each["at"], each["median"]))
    return {subject: sorted(points) for subject, points in found.items()}


def draw(table: dict[str, Any], python: str) -> str:
    """One table as SVG."""
    subjects = lines(table)
    x_ticks = ticks(max(x for points in subjects.values() for x, _ in points))
    y_ticks = ticks(max(y for points in subjects.values() for _, y in points))
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[str, str]:
        across = LEFT + x / x_ticks[-1] * (right - LEFT)
        down = bottom - y / y_ticks[-1] * (bottom - TOP)
        return f"{across:.1f}", f"{down:.1f}"

    title = escape(f"{table['title'].partition(';')[0]}, Python {python}")

    def parts() -> Iterator[str]:
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            f'width="{WIDTH}" height="{HEIGHT}" role="img" '
            f'font-family="sans-serif" font-size="12" fill="{INK}">'
        )
        yield f"<title>{title}</title>"
        yield f'<text x="{LEFT}" y="22" font-size="14">{title}</text>'
        for tick in y_ticks:
            x, y = place(0, tick)
            opacity = 1 if tick == 0 else 0.3
            yield f'<path d="M{x} {y}H{right}" stroke="{INK}" stroke-opacity="{opacity}"/>'
            yield f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{tick:,}</text>'
        for tick in x_ticks:
            x, y = place(tick, 0)
            yield f'<path d="M{x} {y}v5" stroke="{INK}"/>'
            yield f'<text x="{x}" y="{y}" dy="18" text-anchor="middle">{tick:,}</text>'
        middle = (LEFT + right) / 2
        across = escape(table["across"])
        yield f'<text x="{middle:g}" y="{HEIGHT - 10}" text-anchor="middle">{across}</text>'
        middle = (TOP + bottom) / 2
        yield (
            f'<text transform="translate(16 {middle:g}) rotate(-90)" text-anchor="middle">'
            f"median, {escape(table['unit'])}</text>"
        )
        for number, (subject, points) in enumerate(subjects.items()):
            colour = COLOURS.get(subject, INK)
            places = [place(*point) for point in points]
            path = " ".join(",".join(each) for each in places)
            yield f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            for x, y in places:
                yield f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
            y = f"{TOP + 8 + 20 * number}"
            yield f'<path d="M{right + 16} {y}h20" stroke="{colour}" stroke-width="3"/>'
            yield f'<text x="{right + 42}" y="{y}" dy="4">{escape(subject)}</text>'
        yield "</svg>"

    return "\n".join(parts()) + "\n"


def ticks(highest: float) -> list[int]:
    """Round numbers from 0 to the first that is no less than `highest`; four to seven of them."""
    magnitude = 10 ** max(math.floor(math.log10(max(highest, 1) / 3)), 0)
    step = next(step for n in (1, 2, 5, 10) if highest <= 6 * (step := n * magnitude))
    return [number * step for number in range(max(math.ceil(highest / step), 1) + 1)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plot", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, required=True, metavar="DIRECTORY")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file in arguments.files:
        run = json.loads(file.read_text())
        python = ".".join(run["python"].split(".")[:2])
        for table in run["measurements"]:
            if table["name"] in NAMES and lines(table):
                svg = arguments.out / f"{table['name']}-{python}.svg"
                svg.write_text(draw(table, python))
                print(svg)


if __name__ == "__main__":
    main()
