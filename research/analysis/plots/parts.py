"""What several figures have in common: names at the outer panels of a grid, of levels, and counts in words."""

from collections.abc import Iterable, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from research.analysis.seeds import differing
from research.analysis.style import RC, long, wrapped

LABEL, TICK = RC["axes.labelsize"], RC["xtick.labelsize"]
SLANTED = 1.2  # inches of a line of a slanted word
AROUND = 0.6  # inches of a figure's height that are not its panels'


def tidy(figure: Figure, all_panels: Sequence[Axes], columns: int, used: int, *, x: str, y: str) -> None:
    """Name the axes at the outer panels of a grid only, and take away the panels that are not used."""
    for index, panel in enumerate(all_panels[:used]):
        lowest = index + columns >= used
        panel.tick_params(labelbottom=lowest)
        panel.set_xlabel(x if lowest else "")
    for panel in all_panels[used:]:
        panel.remove()
    height = float(figure.get_size_inches()[1]) - AROUND
    if used > columns:
        figure.supylabel(wrapped(y, height, LABEL), fontsize=LABEL)
    else:
        all_panels[0].set_ylabel(wrapped(y, height, LABEL))


def titled(titles: Iterable[str]) -> float:
    """Give the height of the tallest of panels' titles in inches."""
    return 0.15 * (1 + max(title.count("\n") for title in titles))


def heading(frame: pd.DataFrame, by: str | Sequence[str] | None = None) -> str:
    """Title of a legend whose words are the levels of one factor; several are named at each."""
    names = differing(frame) if by is None else [by] if isinstance(by, str) else list(by)
    return names[0] if len(names) == 1 else ""


def span(counts: Iterable[float], what: str) -> str:
    """`3 to 5 seeds`, `1 seed`."""
    known = [int(count) for count in counts]
    low, high = min(known, default=0), max(known, default=0)
    many = what if high == 1 else f"{what}s"
    return f"{low} {many}" if low == high else f"{low} to {high} {many}"


def levels(axes: Axes, names: Sequence[str], width: float) -> None:
    """Write words at the x axis of a panel of `width` inches: in one line, or slanted where they would meet."""
    names = [wrapped(name, SLANTED, TICK) for name in names]
    axes.set_xticks(range(len(names)), names)
    if max(long(line, TICK) for name in names for line in name.split("\n")) > 0.8 * width / len(names):
        axes.tick_params(axis="x", rotation=30)
        for tick in axes.get_xticklabels():
            tick.set(ha="right", rotation_mode="anchor")
