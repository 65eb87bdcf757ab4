"""A job that is not queued yet, and what is said about it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import torch

from research import runs
from research.compose import Composed
from research.config import Checkpoint, Config, Log, Optimizer, Run, Train
from research.contracts import Objective
from research.errors import HarkError
from research.launch.checks.memo import Memo, value_of, watched
from research.model import check
from research.schedules import Constant

T = TypeVar("T")

BESIDE = ("steps", "validate_every", "max_skipped", "log_every", "compile")  # keys of `train` without a size
FOLDER = "folder"  # what a check has read that asked where the run is


class Verdict(Enum):
    ok = "ok"
    warn = "warn"  # it will run, but perhaps not as meant
    refuse = "refuse"  # it will fail, or be worth nothing


class Said(NamedTuple):
    """What a check says: the facts, and what to do about them."""

    verdict: Verdict
    text: str


class Finding(NamedTuple):
    name: str  # of the check
    verdict: Verdict
    text: str


@dataclass
class Job:
    composed: Composed[Config]
    sample: int  # utterances whose files are looked at
    memo: Memo = field(default_factory=Memo)  # of jobs that share what they have in common
    path: Path | None = None  # run folder, if not the one of its name
    told: list[HarkError] = field(default_factory=list)  # what an earlier check has said

    def __post_init__(self) -> None:
        self.values: dict[str, tuple[str, str]] = {}
        self.cfg = watched(self.composed.config, partial(self.memo.note, self))

    @property
    def world(self) -> int:
        """Ranks."""
        return self.cfg.cluster.nodes * self.cfg.cluster.per_node

    @property
    def folder(self) -> Path:
        """Of the run, there or not."""
        self.memo.note(self, FOLDER)
        return self.path or runs.folder(self.composed.config)

    def get(self, make: Callable[["Job"], T]) -> T:
        """Make a part of the job once, for all checks, and for all jobs of the memo for which it cannot differ.

        Whatever HarkError `make` raises, it raises for every check that asks; the first of them tells it.
        """
        outcome = self.memo.get(make, self, self.value)
        if outcome.error is not None:
            raise outcome.error.with_traceback(None)
        found: T = outcome.made
        return found

    def value(self, key: str) -> tuple[str, str]:
        if key not in self.values:
            own = ("", str(self.folder)) if key == FOLDER else value_of(self.composed.config, key)
            self.values[key] = own
        return self.values[key]


class Check(Protocol):
    """A function; None says that there is nothing to say."""

    __name__: str

    def __call__(self, job: Job, /) -> Said | None: ...


def ok(text: str) -> Said:
    return Said(Verdict.ok, text)


def warn(text: str) -> Said:
    return Said(Verdict.warn, text)


def refuse(text: str) -> Said:
    return Said(Verdict.refuse, text)


def objective_of(job: Job) -> Objective:
    """Give the whole model without values; HarkError for an illegal combination."""
    return check(sized(job.cfg)).to(torch.device("meta"))


def sized(cfg: Config) -> Config:
    """The config of a model without values, and of its steps: what changes no size is left at its default."""
    train = replace(cfg.train, **{key: getattr(Train(), key) for key in BESIDE})
    part = replace(cfg, run=Run(), train=train, optimizer=Optimizer(), schedule=Constant(), init=None)
    return replace(part, checkpoint=Checkpoint(), log=Log())
