"""Whether the effect of one factor depends on another: means of their crossing."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from research.analysis import style
from research.analysis.design import rank
from research.analysis.labels import axis, plain, short
from research.analysis.plots.parts import levels, span
from research.analysis.seeds import means

APART = 0.1  # of a level, between the points of two lines
SEEDS: dict[str, Any] = {"ls": "", "marker": "_", "ms": 4, "mew": 0.8}


@style.styled
def interaction(
    frame: pd.DataFrame, metric: str, a: str, b: str, *, width: float = style.ONE_COLUMN
) -> Figure:
    """Means of a metric at the levels of `a`, one line per level of `b`; lines that are not parallel interact.

    Bars are 95% intervals over the seeds of finished runs, a seed's value the mean over all other factors, and dots are
    the seeds. The intervals are of means; differences, paired by seed, are surer: see `factorial.interactions`.
    HarkError: `a` or `b` is no factor; no finished run has the metric.
    """
    found = means(frame, metric, [b, a])
    figure, (axes,) = style.panels(1, 1, width, 2.4)
    shown = list(dict.fromkeys(map(plain, sorted(found[a], key=rank))))
    names = short({*frame.attrs.get("factors", ()), a, b})
    drawn: dict[str, style.Handle] = {}
    lines = found.groupby(b, dropna=False, sort=False)
    for index, (value, line) in enumerate(lines):
        line = line.sort_values(a, key=lambda column: column.map(plain).map(shown.index))  # noqa: PLW2901
        x = line[a].map(plain).map(shown.index) + APART * (index - (len(lines) - 1) / 2)
        look = style.look(index)
        bars = (line["mean"] - line["low"], line["high"] - line["mean"])
        drawn[f"{names[b]} {plain(value)}"] = axes.errorbar(x, line["mean"], bars, **look, elinewidth=0.9)
        for place, values in zip(x + APART / 3, line["values"], strict=True):
            axes.plot([place] * len(values), values, color=look["color"], **SEEDS)
    levels(axes, shown, width - 0.7)
    axes.set_xlim(-0.5, len(shown) - 0.5)
    axes.set_xlabel(names[a])
    axes.set_ylabel(style.wrapped(axis(metric), 1.8, 8))
    counted = f"Points: mean of {span(found['seeds'], 'seed')}. "
    style.note(figure, counted + "Bars: 95% intervals. Small, beside them: single seeds.")
    style.legend(figure, drawn)
    return figure
