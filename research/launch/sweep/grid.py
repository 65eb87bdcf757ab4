"""Recipe -> cells: the product of the axes, each cell composed, judged, and found by its signature."""

from collections.abc import Mapping
from dataclasses import fields
from itertools import product

from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

from research import runs
from research.compose import Composed, Variants, groups
from research.config import Config
from research.errors import HarkError
from research.launch.sweep.cell import Cell
from research.launch.sweep.recipe import Recipe, check_name, parse
from research.model import check
from research.registry import load_plugins

HARMLESS = ("run", "optimizer", "schedule", "checkpoint", "log")  # sections that make no config illegal
Point = Mapping[str, str]  # axis -> one of its values, as it is typed


def cells(recipe: Recipe) -> list[Cell]:
    """Compose every point of the grid; of points that compute the same the first is kept, and what is illegal is told.

    HarkError: an axis has no values, or all cells are refused.
    """
    composer = Composer(recipe)
    kept: dict[str, Cell] = {}
    for point in points(recipe):
        cell = composer.cell(point)
        kept.setdefault(runs.signature(cell.composed.config) if cell.composed else cell.label, cell)
    found = list(kept.values())
    if all(cell.refused for cell in found):
        alike = len({cell.refused for cell in found}) == 1
        raise HarkError(
            found[0].refused if alike else f"no cell is legal; {found[0].label}: {found[0].refused}"
        )
    return found


def points(recipe: Recipe) -> list[Point]:
    """The product of the axes, the last one fastest; as many as `cells` gives, and those that it merges."""
    load_plugins()
    values = [values_of(key, text) for key, text in recipe.axes.items()]
    return [dict(zip(recipe.axes, point, strict=True)) for point in product(*values)]


def values_of(key: str, text: str) -> list[str]:
    """Values of an axis, each as it is typed for one run; HarkError when there are none, or no end of them."""
    axis = parse(f"{key}={text}", "")
    if not axis.is_sweep_override():
        return [text]
    try:
        if isinstance(glob := axis.value(), Glob):
            found = glob.filter(groups(Config).get(key, []))
        else:
            found = list(axis.sweep_string_iterator())
    except HydraException:
        raise HarkError(f"{key}={text}: no list of values; `search:` in a recipe takes intervals") from None
    if not found:
        raise HarkError(f"{key}={text}: an axis without values")
    return found


def name_of(recipe: Recipe, found: list[Cell]) -> str:
    """Give the name of a sweep; HarkError when it can be no folder's."""
    name = recipe.name or next(cell.composed.config.log.group for cell in found if cell.composed)
    check_name(name)
    return name


class Composer:
    """Makes cells of one sweep. What they have in common is composed once, and built once."""

    def __init__(self, recipe: Recipe) -> None:
        load_plugins()
        self.name, self.shared, self.groups = recipe.name, recipe.shared, groups(Config)
        self.variants: dict[tuple[str, ...], Variants[Config] | HarkError] = {}
        self.judged: dict[str, str] = {}  # all that can be illegal -> why it is, or ""

    def cell(self, point: Point) -> Cell:
        typed = {key: f"{key}={value}" for key, value in point.items()}
        chosen = tuple(word for key, word in typed.items() if key in self.groups)
        values = tuple(word for key, word in typed.items() if key not in self.groups)
        overrides = (*self.shared, *chosen, *values)
        try:
            composed = self.base(chosen).compose(values)
            self.judge(composed.config)
        except HarkError as error:
            return Cell(overrides, dict(point), refused=str(error))
        self.mark(composed, list(typed.values()))
        return Cell(overrides, dict(point), composed, runs.find(composed.config))

    def base(self, chosen: tuple[str, ...]) -> Variants[Config]:
        """What is shared by cells that choose the same plugins and recipes; HarkError every time if it is wrong."""
        if chosen not in self.variants:
            try:
                self.variants[chosen] = Variants(Config, [*self.shared, *chosen])
            except HarkError as error:
                self.variants[chosen] = error
        found = self.variants[chosen]
        if isinstance(found, HarkError):
            raise found
        return found

    def judge(self, config: Config) -> None:
        """HarkError when no model can be made of this."""
        made_of = repr([getattr(config, item.name) for item in fields(config) if item.name not in HARMLESS])
        if made_of not in self.judged:
            try:
                check(config)
                self.judged[made_of] = ""
            except HarkError as error:
                self.judged[made_of] = str(error)
        if self.judged[made_of]:
            raise HarkError(self.judged[made_of])

    def mark(self, composed: Composed[Config], tags: list[str]) -> None:
        """Note the sweep and what tells the cell from others; no part of its signature."""
        log = composed.config.log
        self.name = self.name or composed.config.run.name
        log.group, log.tags = self.name, [*log.tags, *tags]
