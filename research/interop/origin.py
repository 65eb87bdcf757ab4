"""The option `init`: where first weights come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from research.errors import HarkError


@dataclass
class Origin:
    """One source. Patterns are globs on the run's own names; `*` stands for dots too."""

    path: str
    step: int | None = None  # of a hark run; the newest good one if not given
    include: list[str] = field(default_factory=lambda: ["*"])
    exclude: list[str] = field(default_factory=list)
    rename: dict[str, str] = field(
        default_factory=dict
    )  # leading parts of names -> others, before the patterns
    allow_missing: float = 0.0  # share of the included tensors of the model that the source may lack

    def __str__(self) -> str:
        return f"init={self.path}"


def origins(init: Any) -> list[Origin]:
    """Read the option; null values count as not given. HarkError names the key that is wrong."""
    items = init if isinstance(init, list) else [init]
    return [origin(item, f"init[{i}]") for i, item in enumerate(items) if item is not None]


def origin(item: Any, where: str) -> Origin:
    given = item if isinstance(item, Mapping) else {"path": item}
    values = {key: value for key, value in given.items() if value is not None}
    if not isinstance(values.get("path"), str):
        raise HarkError(f"{where}={item}: give a path, or a mapping with the key 'path'")
    try:
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Origin), values))
    except OmegaConfBaseException as error:
        key, line = error.full_key or "", str(error).splitlines()[0]
        raise HarkError(f"{where}.{key}={values.get(key)}: {line}") from None
    assert isinstance(found, Origin)
    if not 0 <= found.allow_missing <= 1:
        raise HarkError(f"{where}.allow_missing={found.allow_missing}: is a share, from 0 to 1")
    return found
