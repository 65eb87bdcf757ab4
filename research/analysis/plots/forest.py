"""Effects of factors side by side: differences with intervals, and the verdict on each in words."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from research.analysis import style
from research.analysis.effects import direction
from research.analysis.labels import axis, plain, short
from research.analysis.plots.parts import span
from research.errors import HarkError

LOOKS: dict[int, tuple[str, dict[str, Any]]] = {  # `better` -> what it is called, and how it looks
    1: ("better", {"color": style.BLUE, "marker": "o"}),
    -1: ("worse", {"color": style.VERMILION, "marker": "s"}),
    0: ("not shown to differ", {"color": style.GREY, "marker": "D", "mfc": "white"}),
}
MISSED = "would be missed 1 time in 5 or more"


@style.styled
def effects(table: pd.DataFrame, *, width: float = style.TWO_COLUMNS) -> Figure:
    """A forest plot of a table of `effects.effects` or `factorial.main_effects`, one metric.

    Each row is a level against another: the mean paired difference with its interval, and the verdict. The grey bar
    spans the differences that this many pairs would miss more than one time in five.
    HarkError: several metrics, or none.
    """
    metrics = list(dict.fromkeys(table["metric"]))
    if len(metrics) != 1:
        raise HarkError(
            f"metrics {', '.join(metrics) or 'none'}: draw one; table[table['metric'] == '...'] picks it"
        )
    rows = [row for _, row in table.iterrows()]
    names = short(dict.fromkeys(table["factor"]))
    left = [style.wrapped(compared(row, names), 0.27 * width, 7) for row in rows]
    right = [style.wrapped(said(row), 0.27 * width, 7) for row in rows]
    tall = 1 + max(text.count("\n") for text in (*left, *right))
    figure, (axes,) = style.panels(1, 1, width, (0.13 * tall + 0.12) * len(rows) + 0.55)
    for place, row in enumerate(rows):
        draw(axes, place, row)
    axes.axvline(0, color="0.3", lw=0.8, zorder=1)
    axes.use_sticky_edges = False  # of the grey bars
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), left)
    axes.grid(axis="y", visible=False)
    verdicts = axes.secondary_yaxis("right")
    verdicts.set_yticks(range(len(rows)), right)
    verdicts.tick_params(length=0)
    verdicts.spines["right"].set_visible(False)
    way = "higher is better" if direction(metrics[0], table.attrs.get("falls", ())) > 0 else "lower is better"
    axes.set_xlabel(style.wrapped(f"difference in {axis(metrics[0])}; {way}", 0.6 * width, 8))
    style.note(figure, told(table))
    style.legend(figure, handles(table))
    return figure


def draw(axes: Axes, place: int, row: "pd.Series[float]") -> None:
    """One row; what is not known is not drawn."""
    _, look = LOOKS[int(row["better"])]
    if row["detectable"] > 0:
        axes.barh(place, 2 * row["detectable"], left=-row["detectable"], height=0.6, color="0.9", zorder=0)
    axes.plot((row["low"], row["high"]), (place, place), color=look["color"], lw=1.5)
    axes.plot(row["difference"], place, ls="", ms=5, **look)


def compared(row: "pd.Series[float]", names: Mapping[str, str]) -> str:
    return f"{names[str(row['factor'])]}: {plain(row['level'])} against {plain(row['against'])}"


def said(row: "pd.Series[float]") -> str:
    """Give the verdict, on how many seeds; starred where the table has something to say of its runs."""
    return f"{row['verdict']}, {span([row['seeds']], 'seed')}{'*' if row['left_out'] else ''}"


def told(table: pd.DataFrame) -> str:
    tests = int(table["p"].notna().sum())
    said = "Points: mean differences, paired by seed. Lines: 95% intervals of each on its own"
    said += f"; verdicts are corrected for {tests} comparisons (Holm)." if tests > 1 else "."
    return said + (
        " *Runs were left out, or differ in more: see the table." if any(table["left_out"]) else ""
    )


def handles(table: pd.DataFrame) -> dict[str, style.Handle]:
    seen: dict[str, style.Handle] = {
        name: Line2D([], [], lw=1.5, ms=5, **look)
        for better, (name, look) in LOOKS.items()
        if (table["better"] == better).any()
    }
    if (table["detectable"] > 0).any():
        seen[MISSED] = Patch(color="0.9")
    return seen
