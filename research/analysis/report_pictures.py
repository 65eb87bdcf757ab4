"""Figures as SVG: letters drawn as paths, so that they look the same everywhere, and equal for equal numbers."""

from collections.abc import Callable
from io import BytesIO

from matplotlib import rc_context
from matplotlib.figure import Figure

from research.analysis.report_page import Picture, Text
from research.errors import HarkError


def drawn(name: str, caption: str, draw: Callable[[], Figure]) -> Picture | Text:
    """Draw a figure; where there is nothing to draw, say why."""
    data = BytesIO()
    try:
        with rc_context({"svg.fonttype": "path", "svg.hashsalt": name}):
            figure = draw()
            figure.savefig(data, format="svg", metadata={"Date": None})
    except HarkError as error:
        return Text(f"No picture of this: {error}", "open")
    return Picture(name, caption, data.getvalue(), figure.get_figwidth())
