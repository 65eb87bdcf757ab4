"""Curves over training: the mean of each configuration in its band, and every seed as a thin line."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.analysis import curves as logged
from research.analysis import style
from research.analysis.labels import axis
from research.analysis.seeds import groups, interval, per_seed

TOGETHER = 6  # configurations, more of which get a panel each
MARKS = 8  # on a line


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

    Means are of finished runs; unfinished ones are dotted. Where seeds stop at different steps the mean stops at the
    first. Beyond six configurations each has a panel of its own, the others in grey behind it.
    HarkError: no run logged the metric; `by` is no factor.
    """
    lines = logged.curves(frame, metric, split).merge(frame[["run", "state"]], on="run")
    lines.attrs = frame.attrs
    parts = groups(lines, by)
    apart = len(parts) > TOGETHER
    columns = max(1, round(width / 1.75)) if apart else 1
    rows = -(-len(parts) // columns) if apart else 1
    figure, panels = style.panels(
        rows, columns, width, 1.35 if apart else 0.45 * width + 0.6, sharex=True, sharey=True
    )
    means = {name: averaged(part, x) for name, part in parts.items()}
    handles: dict[str, Artist] = {}
    for index, (name, part) in enumerate(parts.items()):
        panel = panels[index if apart else 0]
        if apart:
            panel.set_title(style.wrapped(name, width / columns - 0.3, 8), loc="left")
            for other in means.values():
                panel.plot(other["x"], other["mean"], color="0.8", lw=0.6, zorder=1)
        handles[name] = draw(panel, part, means[name], x, index)
    style.tidy(figure, panels, columns, len(parts) if apart else 1, axis(x), axis(metric, split))
    style.note(figure, told(lines, means))
    if not apart and len(parts) > 1:
        style.legend(figure, handles, style.heading(lines, by))
    return figure


def averaged(part: pd.DataFrame, x: str) -> pd.DataFrame:
    """Mean, interval and place of one configuration's finished runs, by step."""
    done = part[part["state"] == "done"]
    found = interval(per_seed(done, "value", ["step"]))
    return found.assign(x=done.groupby("step")[x].mean() if x != "step" else found.index)


def draw(axes: Axes, part: pd.DataFrame, found: pd.DataFrame, x: str, index: int) -> Artist:
    """One configuration; gives what stands for it in a legend."""
    look = style.look(index)
    for _, line in part.groupby("run"):
        dots = "-" if line["state"].iloc[0] == "done" else ":"
        axes.plot(line[x], line["value"], dots, color=look["color"], lw=0.5, alpha=0.5, zorder=2)
    axes.fill_between(found["x"], found["low"], found["high"], color=look["color"], alpha=0.18, lw=0)
    every = max(1, len(found) // MARKS)
    (mean,) = axes.plot(found["x"], found["mean"], **look, markevery=(every // 2, every), zorder=3)
    return mean


def told(lines: pd.DataFrame, means: dict[str, pd.DataFrame]) -> str:
    """Say what lines and bands are, and what is in no mean."""
    seeds = [int(found["seeds"].max()) for found in means.values() if len(found)]
    said = f"Thick: mean of {style.span(seeds, 'seed')}. Thin: single runs."
    if max(seeds, default=0) > 1:
        said += " Bands: 95% intervals (Student's t over the seeds)."
    states = lines.groupby("run")["state"].first()
    left = int((states != "done").sum())
    return said + (f" Dotted: {style.span([left], 'unfinished run')}, in no mean." if left else "")
