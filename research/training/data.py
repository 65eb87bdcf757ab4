"""What the loop reads, wired to the ranks of a run: batches of a plan, or of streams."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from rich.table import Table

from research.config import Reader, Training
from research.contracts import Batch, Seq, Stat
from research.data import features, manifest, torch_reader
from research.data.ahead import ahead
from research.data.loader import COUNTED, Loaded, Loader
from research.data.manifest import Manifest
from research.data.plan import Plan, by_budget, held_out, in_order
from research.data.stream import Read, once, stream
from research.data.summary import Summary, summarize
from research.engine import bindings, pipeline
from research.engine.gangs import Ranks
from research.errors import HarkError
from research.training.given import NOTHING, Given

T = TypeVar("T")
HOST = torch.device("cpu")
State = list[list[int]]  # where reading goes on, as far as the step does not say it: plain numbers


@dataclass
class Fed:
    """A batch with what the step books of it."""

    batch: Batch  # on a GPU already where the run has one
    seconds: float  # of speech
    padding: Stat


def reader(choice: Reader, device: torch.device = HOST) -> Read:
    """Give the reader that was asked for; `auto` is fairseq2's where its bindings load. For a GPU it pins batches."""
    pin = device.type == "cuda"
    if choice is Reader.torch or (choice is Reader.auto and bindings.problem()):
        return partial(torch_reader.read, pin=pin)
    return partial(pipeline.read, pin=pin)


class Source(ABC):
    """All the data of a run, as this rank reads it."""

    def __init__(self, cfg: Training, ranks: Ranks) -> None:
        if not cfg.data.train:
            raise HarkError("data.train names no manifest: type data.train=[path/to/train.jsonl]")
        cfg.train.share(ranks.size)
        data = cfg.data
        self.cfg, self.ranks, self.read = cfg, ranks, reader(data.reader, ranks.device)
        self.noise = (
            one_by_one(ranks, lambda: manifest.load_noise(data.noise, data, headers=data.headers))
            if data.noise
            else None
        )
        self.nothing = silence(data.sample_rate)  # what a rank trains on when a batch lost all its rows
        self.heard = Counter[str]()  # utterances of this rank, of COUNTED

    @abstractmethod
    def train(self, step: int, state: State) -> Iterator[Fed]:
        """Batches of this rank from step number `step` on, without end. `state` is of that step."""

    @abstractmethod
    def valid(self) -> Iterator[tuple[int, Batch]]:
        """Numbered batches of this rank's share of the held-out utterances, the same every time.

        A rank that has none left still gets one, of silence: all ranks make the same collective calls.
        """

    @abstractmethod
    def summary(self) -> str | Table:
        """What the run is going to hear."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """The same as plain values, for the run's data.json."""

    def state(self) -> State:
        """Where reading goes on after the batches that were consumed, the same on every rank: a collective call."""
        return []

    def feed(self, loaded: Loaded) -> Fed:
        """Make a step's batch of what was read; `nothing` where it lost all its rows."""
        batch = loaded.batch or self.nothing
        padding = Stat(torch.tensor(loaded.padded - loaded.seconds), loaded.padded)
        return Fed(batch, loaded.seconds, padding)

    def book(self, loaded: Loaded) -> Fed:
        """`feed`, and count what was heard and what was not."""
        self.heard += loaded.counts
        return self.feed(loaded)

    def counts(self) -> dict[str, int]:
        """Utterances of all ranks over the whole run, of COUNTED: a collective call."""
        sums = torch.tensor([self.heard[name] for name in COUNTED], dtype=torch.float64)
        sums = sums.to(self.ranks.device)
        self.ranks.all_sum(sums)
        return dict(zip(COUNTED, map(int, sums.tolist()), strict=True))


class Planned(Source):
    """`data=manifest`: every batch is known from the durations alone."""

    def __init__(self, cfg: Training, ranks: Ranks, given: Given = NOTHING) -> None:
        super().__init__(cfg, ranks)
        data = cfg.data
        self.given = given
        self.speech = self.open(data.train)
        self.held_out = self.open(data.valid) if data.valid else None
        durations = self.speech.durations
        group, seed = cfg.train.batches, cfg.run.seed
        self.plan = Plan(durations, *by_budget(durations, data), group=group, seed=seed)
        if self.speech.stored:
            self.nothing = blank(self.speech)

    def open(self, paths: list[str]) -> Manifest:
        data = self.cfg.data
        found = one_by_one(self.ranks, lambda: manifest.load(paths, data, headers=data.headers))
        self.given.check(found)
        return found

    def train(self, step: int, state: State) -> Iterator[Fed]:
        loader = Loader(self.speech, self.noise, self.cfg.data, self.cfg.run.seed)
        start, ranks = step * self.cfg.train.batches, self.ranks
        read = stream(loader, self.plan, self.read, rank=ranks.rank, world=ranks.size, start=start)
        for loaded in ahead((self.label(each, self.speech) for each in read), ranks.device):
            yield self.book(loaded)

    def valid(self) -> Iterator[tuple[int, Batch]]:
        assert self.held_out is not None
        return self.in_order(self.held_out)

    def in_order(self, speech: Manifest) -> Iterator[tuple[int, Batch]]:
        """Numbered batches of this rank's share of some utterances, from short to long."""
        loader = Loader(speech, self.noise, self.cfg.data, seed=0)
        items = in_order(speech.durations, *held_out(speech.durations, self.cfg.data))
        ranks = self.ranks
        if ranks.rank >= len(items):
            yield ranks.rank, self.nothing
        read = once(loader, items, self.read, rank=ranks.rank, world=ranks.size)
        for k, loaded in enumerate(ahead((self.label(each, speech) for each in read), ranks.device)):
            yield k * ranks.size + ranks.rank, self.feed(loaded).batch

    def label(self, loaded: Loaded, speech: Manifest) -> Loaded:
        """Add what the lines of `speech` say about the rows that were read."""
        if loaded.batch is not None:
            self.given.fill(loaded.batch, speech, loaded.rows)
        return loaded

    def summary(self) -> str | Table:
        return self.described().table()

    def facts(self) -> dict[str, Any]:
        return asdict(self.described())

    def described(self) -> Summary:
        return summarize(self.speech, self.plan, self.cfg.data.sample_rate)


def silence(sample_rate: int) -> Batch:
    """Give a tenth of a second without a label or a text."""
    size = sample_rate // 10
    nothing = Seq(torch.zeros(1, 1, 1, dtype=torch.long), torch.tensor([0]))
    return Batch.clean(Seq(torch.zeros(1, size), torch.tensor([size])), labels=nothing, ids=[""], texts=[""])


def blank(speech: Manifest) -> Batch:
    """Give one frame of zeros without a label or a text, where utterances are stored features."""
    nothing = Seq(torch.zeros(1, 1, 1, dtype=torch.long), torch.tensor([0]))
    frame = torch.zeros(1, 1, features.layout(speech).width)  # (1, 1, L D)
    return Batch.clean(Seq(frame, torch.tensor([1])), labels=nothing, ids=[""], texts=[""])


def one_by_one(ranks: Ranks, load: Callable[[], T]) -> T:
    """Rank 0 first: it fills the cache that the others read."""
    if ranks.rank == 0:
        value = load()
    ranks.barrier()
    return value if ranks.rank == 0 else load()
