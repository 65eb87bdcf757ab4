"""What the layers know: the pretrained encoder beside the same one with random weights, and beside plain features."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from research.analysis import curves, style
from research.analysis.labels import axis
from research.analysis.plots.parts import span, tidy, titled
from research.analysis.seeds import groups, interval, per_seed
from research.evaluation.records import PRETRAINED, RANDOM

SIDES = {PRETRAINED: -0.05, RANDOM: 0.05}  # apart, so that bars do not meet


@style.styled
def layers(
    frame: pd.DataFrame,
    probe: str,
    by: str | Sequence[str] | None = None,
    *,
    width: float = style.TWO_COLUMNS,
) -> Figure:
    """A probe's headline score by layer, one panel per level of `by` (default: all factors) of a frame of runs.

    Bars are 95% intervals over the seeds of pretraining, or of the probe's own where there is one run; a level is a
    feature that needs no encoder. HarkError: no run was probed by it; `by` is no factor.
    """
    lines = curves.layers(frame, probe).merge(frame[["run", "state", "name"]], on="run")
    lines.attrs = frame.attrs
    parts = groups(lines[lines["state"] == "done"], by)
    columns = min(len(parts), max(1, round(width / 1.7)))
    rows = -(-len(parts) // columns)
    titles = [style.wrapped(name, width / columns - 0.45, 8) for name in parts]
    figure, panels = style.panels(rows, columns, width, 1.3 + titled(titles), sharex=True, sharey=True)
    handles: dict[str, style.Handle] = {}
    for title, part, panel in zip(titles, parts.values(), panels, strict=False):
        panel.set_title(title, loc="left")
        handles |= draw(panel, part)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    metric = str(lines["metric"].iloc[0])
    tidy(figure, panels, columns, len(parts), x="layer", y=f"{probe.replace('_', ' ')}: {axis(metric)}")
    style.note(figure, told(parts))
    style.legend(figure, handles)
    return figure


def draw(axes: Axes, part: pd.DataFrame) -> dict[str, style.Handle]:
    """One configuration; gives what stands for its lines in a legend."""
    drawn: dict[str, style.Handle] = {}
    for index, (side, aside) in enumerate(SIDES.items()):
        found = by_layer(part[part["representation"] == side])
        bars = (found["mean"] - found["low"], found["high"] - found["mean"])
        name = f"{side.replace('_', '-')} encoder"
        drawn[name] = axes.errorbar(found.index + aside, found["mean"], bars, **style.look(index))
    plain = part[part["layer"].isna()].groupby(["representation", "period"], sort=True)
    for index, ((feature, period), values) in enumerate(plain, len(SIDES)):
        look = style.look(index) | {"marker": "", "lw": 1.6}
        name = f"{str(feature).replace('_', '-')}, {1e3 * float(str(period)):g} ms"
        drawn[name] = axes.axhline(values["mean"].mean(), **look)
    return drawn


def by_layer(part: pd.DataFrame) -> pd.DataFrame:
    """Mean and interval of each layer; of one run, those that its probe gave."""
    if part["run"].nunique() == 1:
        return part.set_index("layer")[["mean", "low", "high"]].sort_index()
    return interval(per_seed(part, "mean", ["layer"]))


def told(parts: dict[str, pd.DataFrame]) -> str:
    runs = [part["run"].nunique() for part in parts.values()]
    seeds = [part["seed"].nunique() for part in parts.values()]
    own = "95% intervals of its probe, over test utterances and the probe's seeds."
    if max(runs) == 1:
        return f"One run each; bars: {own}"
    alone = f" One run alone: {own}" if min(runs) == 1 else ""
    return f"Points: mean of {span(seeds, 'seed')}. Bars: 95% intervals (Student's t over the seeds).{alone}"
