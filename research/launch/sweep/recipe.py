"""Recipes of sweeps: `sweeps/sweep/NAME.yaml`, and what is typed beside one.

name: nest_codes              of the sweep; the file's own if left out
set: [experiment=nest_demo]   overrides of every cell
grid:                         axes, with their values in Hydra's sweep grammar: a,b  range(3)  choice(...)  glob(*)
  objective: nest,best_rq
  run.seed: range(3)
search: {metric: valid/loss}  try some of it instead of all, see Search; axes can be interval(0.1,0.5), too
probe: [--probe, pnmi]        words of `hark probe`, of every run
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from research.compose import recipes
from research.errors import HarkError, nearest
from research.launch.sweep.folder import RESERVED

KEYS = ("name", "set", "grid", "search", "probe")


class Direction(Enum):
    minimize = "minimize"
    maximize = "maximize"


class Sampler(Enum):
    tpe = "tpe"
    random = "random"


class Prune(Enum):
    none = "none"
    median = "median"  # stop a run that is worse than most were at its step


@dataclass(frozen=True)
class Search:
    """Try `trials` points of the axes, each chosen by what came of those before."""

    metric: str = MISSING  # valid/loss, probe/pnmi, ...
    direction: Direction = Direction.minimize
    trials: int = 30
    parallel: int = 4  # at a time
    seed: int = 0  # of what is tried
    sampler: Sampler = Sampler.tpe
    prune: Prune = Prune.none
    warmup: int = 0  # steps before a run can be stopped


@dataclass(frozen=True)
class Recipe:
    """What a sweep is made of."""

    name: str = ""  # "": as the first cell's run.name
    shared: tuple[str, ...] = ()  # overrides of every cell
    axes: Mapping[str, str] = field(default_factory=dict)  # key -> values, in Hydra's sweep grammar
    search: Search | None = None
    probe: tuple[str, ...] = ()


def read_recipe(words: Sequence[str], name: str = "") -> Recipe:
    """Read `[NAME] key=value ...`: what is typed wins over what the file says. HarkError names the file and the key."""
    files = [word for word in words if "=" not in word and not word.startswith("~")]
    if len(files) > 1:
        raise HarkError(f"{' '.join(files)}: a sweep has one recipe; everything else reads key=value")
    recipe = read_file(find_file(files[0])) if files else Recipe()
    for word in words:
        if word not in files:
            recipe = add(recipe, word)
    name = name or recipe.name
    if name:
        check_name(name)
    return Recipe(name, recipe.shared, recipe.axes, recipe.search, recipe.probe)


def find_file(name: str) -> Path:
    known = recipes("sweep")
    if name not in known:
        there = ", ".join(known) or "none"
        raise HarkError(f"no sweep is called '{name}'{nearest(name, known)} (there are: {there})")
    return known[name]


def check_name(name: str, where: str = "") -> None:
    """HarkError when a sweep cannot be called so: a folder is named after it."""
    if not re.fullmatch(r"\w[\w.+-]*", name, re.ASCII) or name in RESERVED:
        raise HarkError(
            f"{where}a sweep cannot be called '{name}': take letters, digits and . _ + -, and not {' or '.join(RESERVED)}"
        )


def read_file(path: Path) -> Recipe:
    """Read a recipe; HarkError names the file and the key that is wrong."""
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise HarkError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise HarkError(f"{path}: is not YAML ({' '.join(str(error).split())})") from None
    if not isinstance(found, dict):
        raise HarkError(f"{path}: is not a mapping; it holds {', '.join(KEYS)}")
    for key in found:
        if key not in KEYS:
            raise HarkError(
                f"{path}: unknown key '{key}'{nearest(str(key), KEYS)} (there are: {', '.join(KEYS)})"
            )
    name = str(found.get("name") or path.stem)
    check_name(name, f"{path}: ")
    return Recipe(
        name,
        tuple(shared(word, path) for word in words_of(found, "set", path)),
        axes(found.get("grid", {}), path),
        search(found["search"], path) if "search" in found else None,
        tuple(words_of(found, "probe", path)),
    )


def words_of(found: Mapping[str, Any], key: str, path: Path) -> list[str]:
    words = found.get(key, [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise HarkError(f"{path}: {key} is not a list of words")
    return words


def shared(word: str, path: Path) -> str:
    if parse(word, f"{path}: set: ").is_sweep_override():
        raise HarkError(f"{path}: set: {word} has several values; it belongs into grid")
    return word


def axes(grid: Any, path: Path) -> dict[str, str]:
    if not isinstance(grid, dict):
        raise HarkError(f"{path}: grid is not a mapping of keys to their values")
    for key, values in grid.items():
        if isinstance(values, list | dict):
            raise HarkError(f"{path}: grid: {key} is not text; write {key}: a,b for two values")
        if values is None or values == "":
            raise HarkError(f"{path}: grid: {key} has no values; write {key}: a,b")
        parse(f"{key}={values}", f"{path}: grid: ")
    return {str(key): str(values) for key, values in grid.items()}


def search(found: Any, path: Path) -> Search:
    if not isinstance(found, dict):
        raise HarkError(f"{path}: search is not a mapping, such as {{metric: valid/loss}}")
    known = [item.name for item in fields(Search)]
    for key in found:
        if key not in known:
            raise HarkError(
                f"{path}: search: unknown key '{key}'{nearest(str(key), known)} (there are: {', '.join(known)})"
            )
    if "metric" not in found:
        raise HarkError(f"{path}: search: metric is missing; write metric: valid/loss, or probe/pnmi")
    try:
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Search), found))
    except OmegaConfBaseException as error:
        raise HarkError(f"{path}: search: {str(error).splitlines()[0]}") from None
    assert isinstance(made, Search)
    if made.trials < 1 or made.parallel < 1:
        raise HarkError(f"{path}: search: trials and parallel are 1 or more")
    return made


def add(recipe: Recipe, word: str) -> Recipe:
    """Add what is typed: an axis if it has several values; it replaces what the recipe says of this key."""
    typed = parse(word, "")
    key = typed.get_key_element()
    kept = tuple(each for each in recipe.shared if parse(each, "").get_key_element() != key)
    rest = {axis: values for axis, values in recipe.axes.items() if axis != key}
    if typed.is_sweep_override():
        rest = {**recipe.axes, key: typed.get_value_string()}
    else:
        kept = (*kept, word)
    return Recipe(recipe.name, kept, rest, recipe.search, recipe.probe)


def parse(override: str, where: str) -> Override:
    """Parse by Hydra's grammar; HarkError begins with `where`."""
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException as error:
        said = " ".join(str(error).split())
        raise HarkError(f"{where}{override}: Hydra cannot read this override ({said})") from None
