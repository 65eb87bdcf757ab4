"""`hark list` and `hark show`: what there is, and what a command line resolves to."""

import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from research import registry, runs
from research.compose import RECIPES, compose_config, recipes
from research.config import Config
from research.errors import HarkError, nearest
from research.model import check


def warn_broken() -> None:
    for told in registry.skipped():
        print(f"hark: skipped plugin {told}", file=sys.stderr)


def list_plugins(kind: str | None) -> int:
    """Print every plugin and recipe, or those of one kind, with the first line of what is said about it."""
    registry.load_plugins()
    warn_broken()
    kinds = (*registry.KINDS, *RECIPES)
    if kind is not None and kind not in kinds:
        raise HarkError(
            f"no kind of plugin is called '{kind}'{nearest(kind, kinds)} (there are: {', '.join(kinds)})"
        )
    table = Table("kind", "name", "what it is", box=None)
    for each in [kind] if kind else kinds:
        for name in registry.names(each):
            table.add_row(each, name, summary(each, name))
        for name, path in recipes(each).items() if each in RECIPES else ():
            table.add_row(each, name, headline(path))
    Console().print(table)
    return 0


def summary(kind: str, name: str) -> str:
    """The first line of a class's docstring; of a preset, which class it is and what it sets."""
    cls, own = registry.find(kind, name), registry.config_of(kind, name)
    first = registry.names_of(cls)[0]
    if name == first:
        return (inspect.getdoc(cls) or "").split("\n", 1)[0]
    changed = (f.name for f in fields(own) if getattr(own, f.name) != getattr(cls.Config(), f.name))
    return (
        f"{first} with {', '.join(f'{key}={plain(getattr(own, key))}' for key in changed) or 'its defaults'}"
    )


def headline(path: Path) -> str:
    """The first sentence of a recipe's comment, or as much of it as stands on the first line."""
    lines = (line[1:].strip() for line in path.read_text().splitlines() if line.startswith("#"))
    first = next((line for line in lines if not line.startswith("@package")), "")
    return re.split(r"(?<=[.?]) (?=[A-Z])", first)[0]


def plain(value: Any) -> Any:
    return value.name if isinstance(value, Enum) else value


def show(overrides: Sequence[str]) -> int:
    """Print the docstring of every plugin that the overrides name, then the resolved config."""
    composed = compose_config(overrides)
    warn_broken()
    typed = {override.split("=", 1)[0] for override in overrides}
    for kind, name in composed.choices.items():
        if kind in typed and kind in registry.KINDS:
            cls = registry.find(kind, name)
            print(f"{kind}={name}: {cls.__module__}.{cls.__qualname__}\n\n{inspect.getdoc(cls)}\n")
    print(OmegaConf.to_yaml(runs.values_of(composed.config)), end="")
    print(f"# {describe(composed.config)}")
    return 0


def describe(config: Config) -> str:
    """One line: trained parameters by part, and the run's signature. Refuses illegal combinations."""
    objective = check(config)
    total = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    encoder = sum(p.numel() for p in objective.encoder.parameters())
    return f"{total / 1e6:.2f}M trained parameters, encoder {encoder / 1e6:.2f}M, signature {runs.signature(config)}"
