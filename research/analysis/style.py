"""The look of figures: colours that the colour-blind and a grey printer tell apart, sizes of a paper's columns.

Figures are `matplotlib.figure.Figure` at 300 dpi, outside pyplot's state. No text is smaller than 6.5 pt at the size that
it is printed at, and a legend stands above the panels, where no data can be.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec

import pandas as pd
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from research.analysis.seeds import differing
from research.errors import HarkError
from research.files import write

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe and Ito's safe colours
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#767676"  # their yellow is too pale on paper
COLORS = (BLUE, VERMILION, GREEN, PURPLE, BLACK, ORANGE, SKY)
LINES = ("-", (0, (4, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = (
    "o",
    "s",
    "^",
    "D",
    "v",
    "P",
    "X",
    "*",
)  # no two cycles are of one length: 280 looks, 40 without colour

ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9  # inches, of the usual two-column paper
SMALL = 6.5  # pt
AROUND = 0.6  # inches of a panel's height that its title and the names below it take
INK = 0.46  # of a point size: how wide a letter is on average
RC: dict[str, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.8,  # long enough to tell dashes by
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "errorbar.capsize": 2,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in this style, whatever the caller's."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(RC):
            return draw(*args, **kwargs)

    return drawn


def look(index: int) -> dict[str, Any]:
    """Colour, line and marker of the nth of several: each differs from its neighbours in all three."""
    return {
        "color": COLORS[index % len(COLORS)],
        "linestyle": LINES[index % len(LINES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def panels(rows: int, columns: int, width: float, height: float, **how: Any) -> tuple[Figure, list[Axes]]:
    """Give a figure of `width` inches, with panels of `height` inches each in reading order."""
    spaced = ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.03)  # inches
    figure = Figure(figsize=(width, rows * height), dpi=300, layout=spaced)
    return figure, list(figure.subplots(rows, columns, squeeze=False, **how).flat)


def legend(figure: Figure, handles: Mapping[str, Artist], title: str = "") -> None:
    """Put a legend above the panels, in as many columns as there is room for; the figure grows by its height."""
    width, height = figure.get_size_inches()
    names = [wrapped(name, width - 0.5, RC["legend.fontsize"]) for name in handles]
    for columns in range(min(4, len(names)), 0, -1):
        drawn = figure.legend(
            list(handles.values()), names, loc="outside upper left", ncols=columns, title=title or None
        )
        drawn.set_alignment("left")
        box = drawn.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        drawn.remove()
    figure.set_size_inches(width, height + box.height / figure.dpi)


def note(figure: Figure, text: str) -> None:
    """Say below the panels what lines, bands and bars are; the figure grows by its height."""
    width, height = figure.get_size_inches()
    drawn = figure.supxlabel(wrapped(text, width, SMALL), x=0.01, ha="left", fontsize=SMALL, color="0.25")
    figure.set_size_inches(width, height + drawn.get_window_extent().height / figure.dpi)


def wrapped(text: str, width: float, size: float) -> str:
    """Break a text of `size` pt into lines of at most `width` inches."""
    return textwrap.fill(text, max(12, int(width * 72 / (size * INK))))


def save(figure: Figure, out: Path) -> Path:
    """Write a figure, whole or not at all, as what its name ends in; HarkError where matplotlib writes no such file."""
    kinds = figure.canvas.get_supported_filetypes()
    if out.suffix[1:] not in kinds:
        raise HarkError(
            f"{out}: no figure is written as {out.suffix or 'that'}; end the name in .png, .pdf or .svg"
        )
    data = BytesIO()
    with rc_context({"pdf.fonttype": 42}):  # letters that a publisher can embed
        figure.savefig(data, format=out.suffix[1:])
    write(out, data.getvalue())
    return out


def tidy(figure: Figure, all_panels: Sequence[Axes], columns: int, used: int, x: str, y: str) -> None:
    """Name the axes at the outer panels of a grid only, and take away the panels that are not used."""
    for index, panel in enumerate(all_panels[:used]):
        lowest = index + columns >= used
        panel.tick_params(labelbottom=lowest)
        panel.set_xlabel(x if lowest else "")
    for panel in all_panels[used:]:
        panel.remove()
    height = float(figure.get_size_inches()[1])
    if used > columns:
        figure.supylabel(wrapped(y, height, RC["axes.labelsize"]), fontsize=RC["axes.labelsize"])
    else:
        all_panels[0].set_ylabel(wrapped(y, height - AROUND, RC["axes.labelsize"]))


def heading(frame: pd.DataFrame, by: str | Sequence[str] | None = None) -> str:
    """Title of a legend whose words are the levels of one factor; several are named at each."""
    names = differing(frame) if by is None else [by] if isinstance(by, str) else list(by)
    return names[0] if len(names) == 1 else ""


def span(counts: Sequence[int], what: str) -> str:
    """`3 to 5 seeds`, `1 seed`."""
    low, high = min(counts, default=0), max(counts, default=0)
    many = what if high == 1 else f"{what}s"
    return f"{low} {many}" if low == high else f"{low} to {high} {many}"


def levels(axes: Axes, names: Sequence[str], width: float) -> None:
    """Write words at the x axis of a panel of `width` inches: in one line, or slanted where they would meet."""
    longest = max(len(name) for name in names) * INK * RC["xtick.labelsize"] / 72  # inches
    how = (
        {}
        if longest < 0.9 * width / len(names)
        else {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    )
    axes.set_xticks(range(len(names)), names, **how)
