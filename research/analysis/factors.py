"""Which overrides tell runs apart, and what does beside them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import msgspec
import pandas as pd
import yaml

from research import runs
from research.analysis.digest import Digest
from research.config import Config
from research.errors import HarkError

OWN = ("run.seed", "run.name")  # what every run has for itself


def columns(digests: Sequence[Digest]) -> dict[str, list[Any]]:
    """Overrides that differ: key -> value of each run, as its config has it; all numbers, or all words.

    What decides nothing that is computed is left out, and so are seed and name. A run without such a key has "".
    """
    keys = dict.fromkeys(key for each in digests for key in each.typed if key not in OWN)
    found = {}
    for key in keys:
        values = [value(each, key) for each in digests]
        if len({str(v) for v in values}) > 1 and any(decides(key, each.config) for each in digests):
            found[key] = alike(values)
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


def decides(key: str, config: dict[str, Any]) -> bool:
    """Whether a key of a config is part of the signature."""
    node: Any = Config
    parts = key.split(".")
    for depth, part in enumerate(parts, 1):
        item = next((item for item in fields(node) if item.name == part), None)
        if item is None:
            return True
        told = item.metadata.get("volatile", False)
        if told and not callable(told):
            return False
        if callable(told):
            return not told(section(config, ".".join(parts[:depth]), item.type))
        if not is_dataclass(item.type):
            return True
        node = item.type
    return True


def section(config: dict[str, Any], prefix: str, kind: Any) -> Any:
    """A section of a flat config in its type; as it is by default when it cannot be read."""
    tree: dict[str, Any] = {}
    for key, value in config.items():
        if key.startswith(f"{prefix}."):
            *path, last = key.removeprefix(f"{prefix}.").split(".")
            node = tree
            for part in path:
                node = node.setdefault(part, {})
            node[last] = value
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError:
        return kind()
