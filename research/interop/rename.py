"""Weights of other toolkits under hark's names and back, by one table."""

import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from research.errors import HarkError
from research.interop.report import Entry, Fate

# hark's module or parameter -> theirs. {} is an index; of several, hark holds one below the other.
Table = Mapping[str, Sequence[str]]


def theirs(name: str, table: Table, prefix: str = "") -> list[str]:
    """Give their keys for one key of hark's; HarkError when the table has none."""
    indices = re.findall(r"\.(\d+)\.", name)
    pattern = re.sub(r"\.\d+\.", ".{}.", name)
    module, _, kind = pattern.rpartition(".")
    if pattern in table:
        keys = list(table[pattern])
    elif module in table:
        keys = [f"{key}.{kind}" for key in table[module]]
    else:
        raise HarkError(f"{name}: the other format has no place for this weight")
    return [prefix + key.format(*indices) for key in keys]


def take(
    target: Mapping[str, Tensor], state: Mapping[str, Tensor], table: Table, prefix: str = ""
) -> tuple[dict[str, Tensor], list[Entry], dict[str, Tensor]]:
    """Bring `state` under the names and into the shapes of `target`: moved, an entry for each key, what is left.

    HarkError for a weight that is missing or misshapen. `target` may lie on the meta device.
    """
    moved: dict[str, Tensor] = {}
    entries: list[Entry] = []
    left = dict(state)
    for name, wanted in target.items():
        keys = theirs(name, table, prefix)
        missing = [key for key in keys if key not in left]
        if missing:
            raise HarkError(f"{missing[0]}: this weight is missing ({name})")
        value = torch.cat([left.pop(key) for key in keys])
        if value.squeeze().shape != wanted.squeeze().shape:
            shapes = f"{tuple(value.shape)} where the config asks for {tuple(wanted.shape)}"
            raise HarkError(f"{keys[0]}: {name} would be {shapes}")
        moved[name] = value.reshape(wanted.shape)
        entries += [Entry(key, Fate.used, name) for key in keys]
    return moved, entries, left


def account(left: Mapping[str, Tensor], reasons: Mapping[str, str], prefix: str = "") -> list[Entry]:
    """Say why hark has no place for what is left, by how a key begins; HarkError when there is no reason."""
    entries = []
    for key in left:
        inner = key.removeprefix(prefix)
        reason = next((why for start, why in reasons.items() if inner.startswith(start)), None)
        if reason is None:
            raise HarkError(f"{key}: a weight that hark has no place for")
        entries.append(Entry(key, Fate.ignored, reason))
    return entries


def give(
    state: Mapping[str, Tensor], table: Table, shape: Callable[[str, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Put hark's weights under their names, in the shape that `shape` makes of each; the inverse of `take`."""
    given: dict[str, Tensor] = {}
    for name, value in state.items():
        keys = theirs(name, table)
        given |= zip(keys, (part.clone() for part in shape(name, value).chunk(len(keys))), strict=True)
    return given


def conformer_shape(name: str, value: Tensor) -> Tensor:
    """Other toolkits' pointwise convolutions are hark's linear layers; their depthwise ones are 1-D."""
    if re.search(r"convolution\.(gate|out)\.weight$", name):
        return value[..., None]  # (C', C) -> (C', C, 1)
    if name.endswith("convolution.depthwise.weight"):
        return value.squeeze(2)  # (C, 1, 1, K) -> (C, 1, K)
    return value
