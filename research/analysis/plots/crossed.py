"""Whether the effect of one factor depends on another: means of their crossing."""

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from research.analysis import style
from research.analysis.design import rank
from research.analysis.labels import axis, plain, short
from research.analysis.seeds import means

APART = 0.07  # of a level, between the points of two lines
FAINT = {"ls": "", "ms": 2, "mew": 0, "alpha": 0.5}


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
    names = short([a, b])
    drawn: dict[str, Artist] = {}
    lines = found.groupby(b, dropna=False, sort=False)
    for index, (value, line) in enumerate(lines):
        x = line[a].map(plain).map(shown.index) + APART * (index - (len(lines) - 1) / 2)
        look = style.look(index)
        bars = (line["mean"] - line["low"], line["high"] - line["mean"])
        drawn[f"{names[b]} {plain(value)}"] = axes.errorbar(x, line["mean"], bars, **look)
        for place, values in zip(x, line["values"], strict=True):
            axes.plot([place] * len(values), values, look["marker"], color=look["color"], **FAINT)
    style.levels(axes, shown, width)
    axes.set_xlim(-0.4, len(shown) - 0.6)
    axes.set_xlabel(names[a])
    axes.set_ylabel(style.wrapped(axis(metric), 2.2, 8))
    style.note(
        figure,
        f"Points: mean of {style.span(found['seeds'].astype(int), 'seed')}; bars: 95% intervals; dots: seeds.",
    )
    style.legend(figure, drawn)
    return figure
