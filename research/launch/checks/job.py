"""A job that is not queued yet, and what is said about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, NamedTuple, Protocol, TypeVar

import torch

from research.compose import Composed
from research.config import Config
from research.contracts import Objective
from research.model import check

T = TypeVar("T")


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


class ToldError(Exception):
    """What a check needs could not be had; an earlier check has said why."""


@dataclass
class Job:
    composed: Composed[Config]
    sample: int  # utterances whose files are looked at
    made: dict[Any, Any] = field(default_factory=dict)

    @property
    def cfg(self) -> Config:
        return self.composed.config

    @property
    def world(self) -> int:
        """Ranks."""
        return self.cfg.cluster.nodes * self.cfg.cluster.per_node

    def get(self, make: Callable[["Job"], T]) -> T:
        """Make a part of the job once, for all checks.

        Whatever `make` raises, it raises for the check that asks first; the others get a ToldError.
        """
        if make not in self.made:
            self.made[make] = ToldError()
            self.made[make] = make(self)
        if isinstance(self.made[make], ToldError):
            raise self.made[make]
        found: T = self.made[make]
        return found


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
    return check(job.cfg).to(torch.device("meta"))
