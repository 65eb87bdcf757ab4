"""What a sweep was to find out and to run: the comment of its recipe, what was typed, and the cells it was to have."""

import json
import shlex
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from research.compose import recipes
from research.launch.sweep.sweep_command import add_arguments

SEED = "run.seed"


@dataclass(frozen=True)
class Plan:
    """All of it is empty where runs are of no sweep."""

    name: str = ""
    question: tuple[str, ...] = ()  # sentences
    typed: tuple[tuple[str, str], ...] = ()  # command, when
    shared: tuple[str, ...] = ()  # overrides of every cell
    cells: dict[str, dict[str, str]] = field(
        default_factory=dict
    )  # run folder -> what tells it from the others

    @property
    def seeds(self) -> list[str]:
        return list(dict.fromkeys(differs[SEED] for differs in self.cells.values() if SEED in differs))


def plan(folder: Path | None) -> Plan:
    """Read the folder of a sweep; runs that are of none have no plan."""
    if folder is None:
        return Plan()
    told: dict[str, Any] = json.loads((folder / "sweep.json").read_text())
    overrides = [cell["overrides"] for cell in told["cells"].values()]
    shared = [word for word in overrides[0] if all(word in words for words in overrides)] if overrides else []
    typed = [(each["words"], day(each["time"])) for each in told["typed"]]
    comment = comment_of([recipe for words, _ in typed if (recipe := recipe_of(words))])
    return Plan(
        name=told["name"],
        question=tuple(line for line in comment if not line.startswith("hark ")),  # but its commands
        typed=tuple((f"hark sweep {shlex.join(words)}", when) for words, when in typed),
        shared=tuple(shared),
        cells={name: cell["differs"] for name, cell in told["cells"].items()},
    )


def recipe_of(typed: Sequence[str]) -> str:
    """Name the recipe in the words of `hark sweep`; "" when everything was typed."""
    parser = ArgumentParser(exit_on_error=False)
    add_arguments(parser)
    words = parser.parse_known_intermixed_args(typed)[0].words
    return next((word for word in words if "=" not in word and not word.startswith("~")), "")


def comment_of(names: Sequence[str]) -> list[str]:
    """Lines of the comment that a recipe begins with; none where the recipe is not there."""
    file = recipes("sweep").get(names[0]) if names else None
    lines = file.read_text().splitlines() if file else []
    ends = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.lstrip("# ") for line in lines[:ends]]


def day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))
