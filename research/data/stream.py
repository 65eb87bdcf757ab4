"""Batches as the training loop consumes them. The only state is how many were consumed."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import Protocol, TypeVar

from research.config import Data
from research.data.loader import Loaded, Loader
from research.data.plan import Plan
from research.errors import HarkError

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
I_contra = TypeVar("I_contra", contravariant=True)

ENOUGH = 100  # utterances before the share of bad ones says something


class Read(Protocol):
    """Give `load(item)` for every item, in order, loading ahead in `workers` threads or processes.

    `items` may be endless.
    """

    def __call__(self, items: Iterable[T], load: Callable[[T], R], workers: int) -> Iterator[R]: ...


class Loads(Protocol[I_contra]):
    """Reads batches of a plan, or of streams."""

    @property
    def cfg(self) -> Data: ...

    def load(self, item: I_contra, /) -> Loaded: ...


def stream(
    loader: Loader, plan: Plan, read: Read, *, rank: int = 0, world: int = 1, start: int = 0
) -> Iterator[Loaded]:
    """Batches `start + rank`, `start + rank + world`, ... of the plan, without end.

    `start` counts the batches that all ranks have consumed together. HarkError as in `Tally`.
    """
    tally = Tally(loader.cfg.max_bad)
    items = (plan[number] for number in count(start + rank, world))
    for loaded in read(items, loader.load, loader.cfg.workers):
        tally.add(loaded)
        yield loaded


def once(
    loader: Loads[T], items: Sequence[T], read: Read, *, rank: int = 0, world: int = 1
) -> Iterator[Loaded]:
    """The share of this rank in `items`, once; ranks may differ by one batch."""
    tally = Tally(loader.cfg.max_bad)
    for loaded in read(items[rank::world], loader.load, loader.cfg.workers):
        tally.add(loaded)
        yield loaded


class Tally:
    """Logs every bad file once; HarkError when the share of bad utterances is above `max_bad`, of 100 or more."""

    def __init__(self, max_bad: float) -> None:
        self.max_bad, self.read, self.bad = max_bad, 0, 0
        self.told: set[str] = set()
        self.last = ""

    def add(self, loaded: Loaded) -> None:
        self.read += len(loaded.bad) + (len(loaded.batch.ids) if loaded.batch else 0)
        self.tell("utterance left out", loaded.bad)
        self.tell("noise clip left out", loaded.bad_noise)
        if loaded.bad:
            self.bad, self.last = self.bad + len(loaded.bad), loaded.bad[-1]
        if self.read >= ENOUGH and self.bad > self.max_bad * self.read:
            share = f"{self.bad} of {self.read} utterances could not be read"
            raise HarkError(f"{share}, more than data.max_bad={self.max_bad:g}; the last: {self.last}")

    def tell(self, what: str, lines: list[str]) -> None:
        for line in lines:
            if line not in self.told:
                self.told.add(line)
                log.warning("%s: %s", what, line)
