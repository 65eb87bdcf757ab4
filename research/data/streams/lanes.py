"""(seed, epoch, lane) -> clips in order. Nothing else has to be known to start anywhere.

A mixture of N utterances takes n_i = round(N * share_i) of stream i in each epoch: the next n_i of the stream's own
endless sequence, which passes over it again and again, every time in another order. Without weights, therefore, an
epoch has every utterance once. Lanes share the n_i, none having more than one utterance more than another; there are
as many as can fill their buffers, for each ends its epochs with small batches.
"""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from research.config import Streams
from research.data.plan import Floats
from research.data.streams.clip import Clip
from research.data.streams.slices import DRAWS, Slices
from research.data.streams.sources import Stream
from research.errors import HarkError

PART = (
    100  # neighbours in a shard that stay near each other: they are read at once, and shuffled like a shard
)


class Course:
    """The endless sequence of a stream's utterances."""

    def __init__(self, number: int, stream: Stream, seed: int) -> None:
        self.number, self.stream, self.seed = number, stream, seed
        sizes = np.array([len(shard.durations) for shard in stream.shards])
        counts = -(-sizes // PART)
        self.rows = np.cumsum(sizes) - sizes  # the row that each shard begins with
        self.shard = np.repeat(np.arange(len(sizes)), counts)  # (P,) of each part
        place = np.arange(len(self.shard)) - (np.cumsum(counts) - counts)[self.shard]
        self.start = PART * place  # (P,) in its shard
        self.sizes = np.minimum(PART, sizes[self.shard] - self.start)  # (P,)

    def between(self, start: int, stop: int) -> Iterator[tuple[Clip, list[float]]]:
        """Utterances `start` to `stop` of the sequence, each with the numbers that were drawn for it."""
        size = len(self.stream)
        for lap in range(start // size, -(-stop // size)):
            first = lap * size
            yield from self.within(lap, max(start - first, 0), min(stop - first, size))

    def within(self, lap: int, start: int, stop: int) -> Iterator[tuple[Clip, list[float]]]:
        """Utterances `start` to `stop` of a pass."""
        order = np.random.default_rng((self.seed, self.number, lap)).permutation(len(self.sizes))  # (P,)
        edges = np.append(0, np.cumsum(self.sizes[order]))  # (P + 1,)
        first, last = np.searchsorted(edges, start, "right") - 1, np.searchsorted(edges, stop)
        for k in range(first, last):
            begin, end = edges[k : k + 2].clip(start, stop) - edges[k]
            yield from islice(self.part(lap, int(order[k])), begin, end)

    def part(self, lap: int, number: int) -> Iterator[tuple[Clip, list[float]]]:
        """Utterances of a part, shuffled."""
        rng = np.random.default_rng((self.seed, self.number, lap, number))
        shard, start, size = int(self.shard[number]), int(self.start[number]), int(self.sizes[number])
        clips = list(self.stream.shards[shard].clips(start, start + size))
        draws = rng.random((size, DRAWS)).tolist()
        first = int(self.rows[shard])
        for k in rng.permutation(size).tolist():
            clip = clips[k]
            yield clip._replace(source=self.number, row=first + clip.row), draws[k]


def in_sequence(number: int, stream: Stream) -> Iterator[Clip]:
    """All utterances of a stream once, as they lie in its shards."""
    first = 0
    for shard in stream.shards:
        for clip in shard.clips(0, len(shard.durations)):
            yield clip._replace(source=number, row=first + clip.row)
        first += len(shard.durations)


class Lanes:
    """The streams of a mixture, dealt out to lanes. HarkError: the share of one is less than an utterance."""

    def __init__(self, streams: Sequence[Stream], cfg: Streams, seed: int) -> None:
        total = sum(len(stream) for stream in streams)
        self.streams, self.seed, self.slices = streams, seed, Slices(cfg)
        self.courses = [Course(number, stream, seed) for number, stream in enumerate(streams)]
        self.counts = [round(total * stream.share) for stream in streams]  # utterances per epoch, of each
        for stream, count in zip(streams, self.counts, strict=True):
            if count < 1:
                raise HarkError(
                    f"{stream.name}: a share of {stream.share:.2g} in {total} utterances is less than one; "
                    "leave it out of data.train or give it more weight"
                )
        self.count = max(1, min(cfg.lanes, sum(self.counts) // cfg.buffer))

    def clips(self, epoch: int, lane: int) -> Iterator[Clip]:
        """What a lane hears in an epoch; streams take turns at random."""
        spans = self.spans(epoch, lane)
        courses = [course.between(*span) for course, span in zip(self.courses, spans, strict=True)]
        turns = np.repeat(np.arange(len(spans)), [stop - start for start, stop in spans])
        for turn in np.random.default_rng((self.seed, epoch, lane)).permutation(turns).tolist():
            clip, draws = next(courses[turn])
            yield from self.slices.of(clip, self.streams[turn].tags, draws)

    def spans(self, epoch: int, lane: int) -> list[tuple[int, int]]:
        """Which utterances of each stream's sequence a lane takes in an epoch: from, to.

        What does not divide by the number of lanes is dealt to one lane after another, over all streams.
        """
        spans, dealt = [], 0
        for count in self.counts:
            each, rest = divmod(count, self.count)
            place = (lane - dealt) % self.count
            start = epoch * count + place * each + min(place, rest)
            spans.append((start, start + each + (place < rest)))
            dealt += rest
        return spans

    def durations(self) -> Floats:
        """Seconds of all that may be heard, (K,). HarkError when it is nothing."""
        whole = np.concatenate([stream.durations for stream in self.streams]).astype(np.float64)
        found = self.slices.durations(whole)
        if len(found) == 0:
            raise HarkError(
                f"{self.streams[0].name}: every utterance is left out; they last {whole.min():.2f} to "
                f"{whole.max():.2f} s, see data.min_seconds and data.max_seconds"
            )
        return found
