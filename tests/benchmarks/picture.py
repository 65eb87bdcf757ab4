"""Draw the lines that curves.py printed: the time of a step over what changed, and a line of slope 1 beside it.

    python tests/benchmarks/picture.py build/bench/curves.jsonl --out curves.png

Lines of other files are drawn too where they have `kind`, `x`, `step_s`, `least_s` and `most_s`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[2]))  # to be run as a file
from research.analysis.style import GREY, TWO_COLUMNS, legend, look, note, panels, save, styled

AXES = {
    "batch": "rows of a batch",
    "length": "length of a clip (s)",
    "size": "parameters",
    "codes": "codes of the codebook",
    "threads": "threads",
    "ranks": "ranks",
}
COLUMNS = 3


@styled
def draw(lines: Sequence[dict[str, Any]]) -> Figure:
    """One panel for each kind of curve, a line in it for each dtype."""
    points = [line for line in lines if "x" in line and "kind" in line]
    kinds = list(dict.fromkeys(line["kind"] for line in points))
    rows = -(-len(kinds) // COLUMNS)
    figure, axes = panels(rows, min(COLUMNS, len(kinds)), TWO_COLUMNS, 1.8)
    shown: dict[str, Any] = {}
    for kind, each in zip(kinds, axes, strict=False):
        shown |= curve(each, kind, [line for line in points if line["kind"] == kind])
    for empty in axes[len(kinds) :]:
        empty.remove()
    legend(figure, shown)
    note(figure, "Medians over rounds that take turns; bars from the least to the most.")
    return figure


def curve(axes: Axes, kind: str, points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Draw one panel; give what a legend explains."""
    shown: dict[str, Any] = {}
    for number, dtype in enumerate(dict.fromkeys(point["dtype"] for point in points)):
        mine = sorted((point for point in points if point["dtype"] == dtype), key=lambda point: point["x"])
        x, y = [point["x"] for point in mine], [point["step_s"] for point in mine]
        bars = [
            [point["step_s"] - point["least_s"] for point in mine],
            [point["most_s"] - point["step_s"] for point in mine],
        ]
        shown[f"a training step, {dtype}"] = axes.errorbar(x, y, bars, **look(number))
        (shown["in proportion"],) = axes.plot(
            x, [y[-1] * value / x[-1] for value in x], color=GREY, linestyle=(0, (1, 1.2))
        )
    axes.set_xscale("log", base=2 if kind != "size" else 10)
    axes.set_yscale("log")
    if kind != "size":
        ticks = sorted({point["x"] for point in points})
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
    axes.set_xlabel(AXES.get(kind, kind))
    axes.set_ylabel("step (s)")
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=Path("curves.png"), help=".png, .pdf or .svg")
    args = parser.parse_args()
    lines = [json.loads(line) for file in args.files for line in file.read_text().splitlines()]
    save(draw(lines), args.out)


if __name__ == "__main__":
    main()
