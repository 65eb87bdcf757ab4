"""How fast configurations learn: every seed's cost of reaching a value, and the seeds that never did."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.analysis import style
from research.analysis.effects import direction
from research.analysis.labels import axis
from research.analysis.plots.parts import LABEL, TICK, heading
from research.analysis.seeds import groups
from research.analysis.speed import COSTS, summary

BESIDE = 0.14  # of a row: runs below it, the mean above it


@style.styled
def speed(
    table: pd.DataFrame, by: str | Sequence[str] | None = None, *, width: float = style.TWO_COLUMNS
) -> Figure:
    """What `speed.to_reach` gave: steps, audio-hours and device-hours to a value, one row per level of `by`.

    Circles are runs; the mean and its 95% interval over seeds are there where every run got there. How many did not is
    told at the right edge. HarkError: `by` is no factor.
    """
    means = summary(table, by)
    parts = groups(table, by)
    factor = heading(table, by).rpartition(".")[2]
    names = [style.wrapped(f"{factor} {name}".strip(), 0.22 * width, TICK) for name in parts]
    failed = [style.wrapped(missed(part), 0.14 * width, TICK) for part in parts.values()]
    tall = 1 + max(text.count("\n") for text in (*names, *failed))
    figure, panels = style.panels(1, len(COSTS), width, (0.13 * tall + 0.12) * len(names) + 0.55, sharey=True)
    drawn: dict[str, style.Handle] = {}
    for cost, panel in zip(COSTS, panels, strict=True):
        for place, (part, (_, mean)) in enumerate(zip(parts.values(), means.iterrows(), strict=True)):
            drawn |= draw(panel, place, part, mean, cost)
        panel.set_xlabel(style.wrapped(axis(cost), 0.24 * width, LABEL))
        panel.set_xlim(left=0)
        panel.grid(axis="y", visible=False)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    if any(failed):
        words = panels[-1].secondary_yaxis("right")
        words.set_yticks(range(len(failed)), failed)
        words.tick_params(length=0)
        words.spines["right"].set_visible(False)
    style.note(figure, told(table))
    if drawn:
        style.legend(figure, drawn)
    return figure


def draw(
    axes: Axes, place: int, part: pd.DataFrame, mean: "pd.Series[float]", cost: str
) -> dict[str, style.Handle]:
    """One row of a panel; gives what stands for its marks in a legend."""
    took = part[cost].dropna()
    drawn: dict[str, style.Handle] = {}
    if pd.notna(mean[cost]):
        low, high = mean[f"{cost}_low"], mean[f"{cost}_high"]
        bars = None if pd.isna(low) else [[mean[cost] - low], [high - mean[cost]]]
        drawn["mean, 95% interval"] = axes.errorbar(
            mean[cost], place - BESIDE, xerr=bars, fmt="D", color=style.BLUE
        )
    if len(took):
        look: dict[str, Any] = {
            "marker": "o",
            "ls": "",
            "ms": 3,
            "mfc": "none",
            "mec": style.BLACK,
            "mew": 0.6,
        }
        (drawn["single run"],) = axes.plot(took, [place + BESIDE] * len(took), **look)
    return drawn


def missed(part: pd.DataFrame) -> str:
    """Count the runs that never got there, those apart that may yet."""
    not_there = part[part["steps"].isna()]
    never = int((not_there["state"] == "done").sum())
    said = [f"{never} of {len(part)} never"] if never else []
    return ", ".join(said + ([f"{later} not finished"] if (later := len(not_there) - never) else []))


def told(table: pd.DataFrame) -> str:
    """Say which value of what was to be reached, and how closely that is known."""
    asked = table.attrs
    sign = "at least" if direction(asked["metric"], asked.get("falls", ())) > 0 else "at most"
    said = f"To a {axis(asked['metric'], asked['split'])} of {sign} {asked['value']:g}."
    gaps = (table["steps"] - table["after"]).dropna()
    if len(gaps):
        said += f" Known to {gaps.max():g} steps: the metric was logged no oftener."
    return said + (" No mean where a run did not get there." if table["steps"].isna().any() else "")
