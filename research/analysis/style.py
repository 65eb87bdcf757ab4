"""The look of figures: colours that the colour-blind and a grey printer tell apart, sizes of a paper's columns.

Figures are `matplotlib.figure.Figure` at 300 dpi, outside pyplot's state. No text is smaller than 6.5 pt at the size that
it is printed at, and a legend stands above the panels, where no data can be.
"""

import textwrap
from collections.abc import Callable, Mapping
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.textpath import text_to_path

from research.errors import HarkError
from research.files import write

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"  # Okabe and Ito's safe colours
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#767676"  # their yellow is too pale on paper
COLORS = (BLUE, VERMILION, GREEN, PURPLE, BLACK, ORANGE, SKY)
LINES = ("-", (0, (4, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1, 1, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")  # cycles of 7, 5 and 8: 280 looks, 40 without colour

ONE_COLUMN, TWO_COLUMNS = 3.35, 6.9  # inches, of the usual two-column paper
SMALL = 6.5  # pt
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
Handle = Artist | Container  # what a legend explains


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Let a function draw in this style, whatever the caller's."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(RC):  # type: ignore[arg-type]  # a literal of all keys is asked for
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


def legend(figure: Figure, handles: Mapping[str, Handle], title: str = "") -> None:
    """Put a legend above the panels, in as many columns as there is room for; the figure grows by its height."""
    width, height = figure.get_size_inches()
    names = [wrapped(name, width - 0.6, RC["legend.fontsize"]) for name in handles]
    marks: Any = list(handles.values())  # containers too, whatever matplotlib's types say
    for columns in range(min(4, len(names)), 0, -1):
        drawn = figure.legend(marks, names, loc="outside upper left", ncols=columns, title=title or None)
        drawn.set_alignment("left")
        box = drawn.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        drawn.remove()
    figure.set_size_inches(width, height + box.height / figure.dpi)


def note(figure: Figure, text: str) -> None:
    """Say below the panels what lines, bands and bars are; the figure grows by its height."""
    width, height = figure.get_size_inches()
    drawn = figure.supxlabel(
        wrapped(text, width - 0.1, SMALL), x=0.01, ha="left", fontsize=SMALL, color="0.25"
    )
    figure.set_size_inches(width, height + drawn.get_window_extent().height / figure.dpi)


def wrapped(text: str, width: float, size: float) -> str:
    """Break a text of `size` pt into lines of at most `width` inches, words only where one alone is too long."""
    room = max(8, int(1.3 * len(text) * width / max(long(text, size), width)))
    while True:
        lines = textwrap.wrap(text, room)
        if room == 8 or all(long(line, size) <= width for line in lines):
            return "\n".join(lines)
        room -= 1


def long(text: str, size: float) -> float:
    """Give the width of a line of text in inches."""
    points, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return float(points) / 72


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
