"""Score against cost: every configuration with its intervals, and the front of those that none beats."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from research.analysis import style
from research.analysis.labels import axis
from research.analysis.pareto import front
from research.analysis.plots.parts import heading, span

WIDE = 8.0  # times the cheapest: from here on the axis of costs is logarithmic


@style.styled
def pareto(
    frame: pd.DataFrame, score: str, cost: str = "device_h", *, width: float = style.TWO_COLUMNS
) -> Figure:
    """Means over seeds with 95% intervals both ways; filled and joined by steps where no other is better for less.

    The legend counts in percent how sure a place on the front is (see `pareto.front`). HarkError: as `pareto.front`.
    """
    table = front(frame, score, cost)
    shown = table[table["cost"].notna()]
    figure, (axes,) = style.panels(1, 1, width, 0.42 * width + 0.6)
    drawn: dict[str, style.Handle] = {}
    for index, (_, row) in enumerate(shown.iterrows()):
        x, y = ([[row[c] - row[f"{c}_low"]], [row[f"{c}_high"] - row[c]]] for c in ("cost", "score"))
        look = style.look(index) | {"linestyle": "", "elinewidth": 0.8}
        inside = look["color"] if row["front"] else "white"
        drawn[named(row)] = axes.errorbar(row["cost"], row["score"], y, x, mfc=inside, ms=5, **look)
    best = shown[shown["front"]]
    (steps,) = axes.plot(best["cost"], best["score"], drawstyle="steps-post", color="0.4", lw=1, zorder=1)
    drawn["front"] = steps
    if shown["cost"].max() > WIDE * shown["cost"].min() > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
    axes.set_xlabel(axis(cost))
    axes.set_ylabel(style.wrapped(axis(score), 0.42 * width, 8))
    style.note(figure, told(table))
    style.legend(figure, drawn, heading(frame))
    return figure


def named(row: "pd.Series[float]") -> str:
    sure = "" if pd.isna(row["sure"]) else f" ({100 * row['sure']:.0f}%)"
    return f"{row['configuration']}{sure}"


def told(table: pd.DataFrame) -> str:
    said = f"Filled: on the front. Bars: 95% intervals over {span(table.loc[table['seeds'] > 0, 'seeds'], 'seed')}."
    if table["sure"].notna().any():
        said += " In brackets: how often it is on the front when means are drawn from their intervals."
    left = int(table["left_out"].sum())
    return said + (
        f" Left out: {span([left], 'run')}, which are not finished or lack a number." if left else ""
    )
