"""What a run is going to hear of streams, before it starts."""

from collections import Counter
from dataclasses import dataclass
from itertools import islice

from rich.table import Table

from research.data.streams.batches import Batches, padding
from research.data.streams.slices import KEEP
from research.data.streams.sources import Stream

SAMPLE = 100  # batches that padding is measured on


@dataclass(frozen=True)
class Part:
    """A source of the mixture."""

    name: str
    utterances: int
    hours: float
    share: float  # of the utterances of an epoch
    left_out: dict[str, int]  # reason -> utterances or windows


@dataclass(frozen=True)
class StreamSummary:
    sources: list[Part]
    utterances: int
    hours: float
    shortest: float  # s, as heard
    longest: float  # s, as heard
    left_out: dict[str, int]
    kept: float  # share that data.keep leaves, in the first batches
    epoch: int  # utterances
    lanes: int
    buckets: int
    padding: float  # share of the audio in the first batches

    def table(self) -> Table:
        """For the console: a line per source, then one per fact."""
        table = Table("data", "utterances", "hours", "share", "left out")
        for part in self.sources:
            table.add_row(*row(part))
        if len(self.sources) > 1:
            table.add_section()
            table.add_row(*row(Part("all", self.utterances, self.hours, 1.0, self.left_out)))
        table.add_section()
        facts = {
            "durations": f"{self.shortest:.2f} to {self.longest:.2f} s",
            "an epoch": f"{self.epoch:,}",
            "lanes": f"{self.lanes}",
            "buckets": f"{self.buckets}",
            "padding": f"about {self.padding:.1%}",
        }
        facts |= {"data.keep leaves": f"about {self.kept:.1%}"} if self.kept < 1 else {}
        for name, value in facts.items():
            table.add_row(name, value)
        return table


def row(part: Part) -> tuple[str, ...]:
    out = ", ".join(f"{count:,} {reason}" for reason, count in part.left_out.items())
    return part.name, f"{part.utterances:,}", f"{part.hours:,.2f}", f"{part.share:.1%}", out


def describe(batches: Batches) -> StreamSummary:
    lanes = batches.lanes
    heard = lanes.durations()
    sources = [part(batches, stream) for stream in lanes.streams]
    first = list(islice(batches.lane(0), SAMPLE))
    return StreamSummary(
        sources=sources,
        utterances=sum(source.utterances for source in sources),
        hours=sum(source.hours for source in sources),
        shortest=float(heard.min()),
        longest=float(heard.max()),
        left_out=dict(sum((Counter(source.left_out) for source in sources), Counter())),
        kept=1 - lanes.slices.left_out[KEEP] / lanes.slices.asked,
        epoch=sum(lanes.counts),
        lanes=lanes.count,
        buckets=len(batches.bounds),
        padding=padding(first),
    )


def part(batches: Batches, stream: Stream) -> Part:
    durations = stream.durations.astype(float)
    out = dict(stream.left_out) | batches.lanes.slices.beyond(durations)
    return Part(stream.name, len(stream), float(durations.sum()) / 3600, stream.share, out)
