"""Which overrides tell runs apart, and which of them never differ alone."""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import msgspec
import pandas as pd
import yaml

from research import registry
from research.analysis.digest import Digest
from research.config import Config

OWN = ("run.seed", "run.name")  # what every run has for itself


def columns(digests: Sequence[Digest]) -> dict[str, list[Any]]:
    """Overrides that differ: key -> value of each run, as its config has it; all numbers, or all words.

    What decides nothing that is computed is left out, and so are seed and name. A run without such a key has "".
    """
    keys = dict.fromkeys(key for each in digests for key in each.typed if key not in OWN)
    found = {}
    for key in keys:
        asked = [each for each in digests if each.config or key in each.typed]
        if len({str(value(each, key)) for each in asked}) > 1 and any(decides(key, x.config) for x in asked):
            found[key] = alike([value(each, key) for each in digests])
    return found


def value(each: Digest, key: str) -> Any:
    """A run's own value; of a recipe, which no config names, and of a cell without a run, what was typed."""
    if key in each.config:
        return each.config[key]
    return yaml.safe_load(each.typed[key]) if key in each.typed else None


def alike(values: list[Any]) -> list[Any]:
    """Values of one type, so that they can be sorted."""
    if all(isinstance(v, bool) for v in values) or all(type(v) in (int, float) for v in values):
        return values
    return ["" if v is None else str(v) for v in values]


def follows(frame: pd.DataFrame, keys: Sequence[str]) -> dict[str, str]:
    """Factors that another one decides, so that they have no effect of their own to look for: key -> the other one.

    Of two that decide each other, the one that names a plugin or a recipe is kept, or else the first. Cells without a
    run have no say, except on factors of which there are no two levels without them.
    """
    found: dict[str, str] = {}
    run = frame[frame["state"] != "missing"]
    order = sorted(keys, key=lambda key: (-run[key].nunique(), "." in key))
    for number, key in enumerate(order):
        asked = run if run[key].nunique() > 1 else frame
        kept = [other for other in order[:number] if other not in found]
        decided = [other for other in kept if asked.groupby(other)[key].nunique().max() == 1]
        if decided:
            found[key] = decided[0]
    return found


def decides(key: str, config: dict[str, Any]) -> bool:
    """Whether a key of a config is part of the signature."""
    node: Any = Config
    parts = key.split(".")
    for depth, part in enumerate(parts, 1):
        if not is_dataclass(node):
            return True
        item = next((item for item in fields(node) if item.name == part), None)
        if item is None:
            return True
        told = item.metadata.get("volatile", False)
        if callable(told):
            return not told(section(config, ".".join(parts[:depth]), item.type))
        if told:
            return False
        node = plugin(part, config.get(part)) if depth == 1 else item.type
        node = node or item.type
    return True


@cache
def plugin(kind: str, name: str | None) -> Any:
    """Config of a plugin; nothing for what is no plugin, or none that is known here."""
    registry.load_plugins()
    return registry.config_of(kind, name) if name in registry.names(kind) else None


def section(config: dict[str, Any], prefix: str, kind: Any) -> Any:
    """A section of a flat config in its type; as it is by default when it cannot be read."""
    tree: dict[str, Any] = {}
    for key, one in config.items():
        if key.startswith(f"{prefix}."):
            *path, last = key.removeprefix(f"{prefix}.").split(".")
            node = tree
            for part in path:
                node = node.setdefault(part, {})
            node[last] = one
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError:
        return kind()
