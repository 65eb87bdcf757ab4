"""Curves over training: the mean of each configuration in its band, and every seed as a thin line."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.analysis import curves as logged
from research.analysis import style
from research.analysis.labels import axis
from research.analysis.plots.parts import heading, span, tidy, titled
from research.analysis.seeds import groups, interval, per_seed

TOGETHER = 6  # configurations, more of which get a panel each
MARKS = 8  # on a line
FOUND = ["mean", "low", "high", "seeds", "x"]


@style.styled
def curves(
    frame: pd.DataFrame,
    metric: str,
    by: str | Sequence[str] | None = None,
    *,
    split: str = "train",
    x: str = "step",
    width: float = style.TWO_COLUMNS,
) -> Figure:
    """A metric over steps (or `x="audio_h"`) of a frame of runs, one line per level of `by` (default: all factors).

    Thin lines are seeds, each the mean over all other factors. Only finished runs are averaged; the others are dotted.
    Where a seed logged nothing there is no mean. Beyond six configurations each has a panel, the others behind it.
    HarkError: no run logged the metric; `by` is no factor.
    """
    lines = logged.curves(frame, metric, split).merge(frame[["run", "name", "state"]], on="run")
    lines.attrs = frame.attrs
    parts = groups(lines, by)
    found = {name: averaged(part, x) for name, part in parts.items()}
    apart = len(parts) > TOGETHER
    columns = max(1, round(width / 1.75)) if apart else 1
    rows = -(-len(parts) // columns) if apart else 1
    titles = [style.wrapped(name, width / columns - 0.45, 8) for name in parts] if apart else []
    height = 1.1 + titled(titles) if apart else 0.4 * width + 0.8
    figure, panels = style.panels(rows, columns, width, height, sharex=True, sharey=True)
    handles: dict[str, style.Handle] = {}
    for index, (name, part) in enumerate(parts.items()):
        panel = panels[index if apart else 0]
        look = {"color": style.BLUE} if apart else style.look(index)
        if apart:
            panel.set_title(titles[index], loc="left")
            for other in found.values():
                panel.plot(other["x"], other["mean"], color="0.75", lw=0.5, zorder=1)
        handles[name] = draw(panel, part, found[name], x, look)
    tidy(figure, panels, columns, len(parts) if apart else 1, x=axis(x), y=axis(metric, split))
    style.note(figure, told(lines, found))
    if not apart and len(parts) > 1:
        style.legend(figure, handles, heading(lines, by))
    return figure


def averaged(part: pd.DataFrame, x: str) -> pd.DataFrame:
    """Each seed of one configuration by step, then x, mean, low, high and seeds; finished runs only."""
    done = part["state"] == "done"
    table = per_seed(part.assign(value=part["value"].where(done)), "value", ["step"])
    place = part[done].groupby("step")[x].mean() if x != "step" else table.index
    return table.join(interval(table).assign(x=place))


def draw(axes: Axes, part: pd.DataFrame, found: pd.DataFrame, x: str, look: dict[str, Any]) -> style.Handle:
    """One configuration; gives what stands for it in a legend."""
    thin = {"color": look["color"], "lw": 0.5, "alpha": 0.6, "zorder": 2}
    for seed in found.columns.difference(FOUND, sort=False):
        axes.plot(found["x"], found[seed], **thin)
    for _, line in part[part["state"] != "done"].groupby("run"):
        axes.plot(line[x], line["value"], ":", **thin | {"lw": 0.9, "alpha": 0.9})
    axes.fill_between(found["x"], found["low"], found["high"], color=look["color"], alpha=0.18, lw=0)
    every = max(1, len(found) // MARKS)
    (mean,) = axes.plot(found["x"], found["mean"], **look, markevery=(every // 2, every), zorder=3)
    return mean


def told(lines: pd.DataFrame, found: dict[str, pd.DataFrame]) -> str:
    """Say what lines and bands are, and what is in no mean."""
    seeds = [int(table["seeds"].max()) for table in found.values() if len(table)]
    if not seeds:
        return "Dotted: unfinished runs; there is no other."
    said = (
        f"Thick: mean of {span(seeds, 'seed')}. Thin: single seeds."
        if max(seeds) > 1
        else "One seed each: no intervals."
    )
    if max(seeds) > 1:
        said += " Bands: 95% intervals (Student's t over the seeds)."
    states = lines.groupby("run")["state"].first()
    left = int((states != "done").sum())
    return said + (f" Dotted: {span([left], 'unfinished run')}, in no mean." if left else "")
