"""What a reader would stumble over in a figure: names without units, text that is cut off, or that covers other text."""

from itertools import combinations

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

NO_UNIT = ("layer", "linear CKA", "mel channel")  # counts and shares that are called by their names
TOUCH = 1.0  # px that boxes of text may share: letters do not fill them


def faults(figure, bare=()):
    """Say what is wrong with a figure, one line each; `bare` names have no unit."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = [fault for axes in figure.axes for fault in unnamed(figure, axes, (*NO_UNIT, *bare))]
    boxes = [(text, box.padded(-TOUCH)) for text, box in texts(figure, canvas.get_renderer())]
    whole = figure.bbox.padded(TOUCH)
    for text, box in boxes:
        if not (whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1):
            found.append(f"{text!r} is cut off")
    for (one, a), (other, b) in combinations(boxes, 2):
        if a.overlaps(b):
            found.append(f"{one!r} covers {other!r}")
    return found


def unnamed(figure, axes, bare):
    """Axes that are read, for their ticks have numbers, need a name with a unit."""
    bar = axes.get_label() == "<colorbar>"
    for name, axis, shared in (
        ("x", axes.xaxis, figure.get_supxlabel()),
        ("y", axes.yaxis, figure.get_supylabel()),
    ):
        ticks = [label.get_text() for label in axis.get_majorticklabels() if label.get_visible()]
        said = axis.get_label_text() or shared
        if any(ticks) and all(map(number, ticks)) and not said and not (bar and name == "x"):
            yield f"{name} axis has no name"
        if said and "(" not in said and not said.startswith(bare):
            yield f"{name} axis has no unit: {said!r}"


def number(text):
    try:
        float(text.replace("\N{MINUS SIGN}", "-") or 0)
    except ValueError:
        return False
    return True


def texts(figure, renderer):
    """Each visible text that stands upright or lies flat, and its box."""
    outside = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in beyond(axis)}
    for artist in figure.findobj(lambda each: isinstance(each, Text)):
        if (
            artist.get_visible()
            and artist.get_text().strip()
            and artist.get_rotation() % 90 == 0
            and artist not in outside
        ):
            yield artist.get_text(), artist.get_window_extent(renderer)


def beyond(axis):
    """Labels of ticks that are out of view, and not drawn."""
    low, high = sorted(axis.get_view_interval())
    for place, label in zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False):
        if not low <= place <= high:
            yield label
