"""How fast configurations learn: every seed's cost of reaching a value, and the seeds that never did."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.analysis import style
from research.analysis.effects import direction
from research.analysis.labels import axis
from research.analysis.seeds import groups
from research.analysis.speed import COSTS, summary


@style.styled
def speed(
    table: pd.DataFrame, by: str | Sequence[str] | None = None, *, width: float = style.TWO_COLUMNS
) -> Figure:
    """What `speed.to_reach` gave: steps, audio-hours and device-hours to a value, one row per level of `by`.

    Dots are runs; the mean and its 95% interval over seeds are there where every run got there. Those that never did
    are counted at the right edge. HarkError: `by` is no factor.
    """
    means = summary(table, by)
    parts = groups(table, by)
    names = [style.wrapped(name, 0.25 * width, 7) for name in parts]
    tall = 1 + max(name.count("\n") for name in names)
    figure, panels = style.panels(1, len(COSTS), width, (0.13 * tall + 0.12) * len(names) + 0.55, sharey=True)
    drawn: dict[str, Artist] = {}
    for cost, panel in zip(COSTS, panels, strict=True):
        for place, (part, (_, mean)) in enumerate(zip(parts.values(), means.iterrows(), strict=True)):
            drawn |= draw(panel, place, part, mean, cost)
        panel.set_xlabel(style.wrapped(axis(cost), 0.25 * width, 8))
        panel.set_xlim(left=0)
        panel.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    style.note(figure, told(table))
    style.legend(figure, {name: drawn[name] for name in sorted(drawn)}, style.heading(table, by))
    return figure


def draw(axes: Axes, place: int, part: pd.DataFrame, mean: "pd.Series[float]", cost: str) -> dict[str, Artist]:
    """One row of a panel; gives what stands for its marks in a legend."""
    took = part[cost].dropna()
    drawn: dict[str, Artist] = {}
    if len(took):
        (drawn["single run"],) = axes.plot(
            took, [place] * len(took), "o", ms=3, mfc="none", mec=style.SKY, zorder=3
        )
    if pd.notna(mean[cost]):
        bars = None if pd.isna(low := mean[f"{cost}_low"]) else [[mean[cost] - low], [mean[f"{cost}_high"] - mean[cost]]]
        drawn["mean with 95% interval"] = axes.errorbar(
            mean[cost], place, xerr=bars, fmt="D", color=style.BLUE, ms=4, zorder=2
        )
    if never := int(part["steps"].isna().sum()):
        edge = axes.get_yaxis_transform()
        (drawn["never got there"],) = axes.plot(
            1, place, ">", color=style.VERMILION, ms=5, transform=edge, clip_on=False, zorder=4
        )
        axes.text(0.96, place, f"{never} never", transform=edge, ha="right", va="center", fontsize=style.SMALL)
    return drawn


def told(table: pd.DataFrame) -> str:
    """Say which value of what was to be reached, and how closely that is known."""
    asked = table.attrs
    sign = "at least" if direction(asked["metric"]) > 0 else "at most"
    said = f"To a {axis(asked['metric'], asked['split'])} of {sign} {asked['value']:g}."
    gaps = (table["steps"] - table["after"]).dropna()
    if len(gaps):
        said += f" Known to {gaps.max():g} steps: the metric was logged no oftener."
    return said + (" No mean where a run never got there." if table["steps"].isna().any() else "")
