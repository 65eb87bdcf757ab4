"""What a run will hear, as far as its lines tell: of streams."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from research.config import Streams
from research.data.loader import Loaded
from research.data.streams.clip import Clip, Portion
from research.data.streams.lanes import Lanes
from research.data.streams.loader import StreamLoader
from research.data.streams.slices import DRAWS
from research.data.streams.sources import Stream, open_streams
from research.errors import HarkError
from research.launch.checks.job import Job
from research.launch.checks.speech import Speech


def lanes_of(job: Job) -> Lanes:
    """Open all sources; HarkError as in the run."""
    data = replace(job.cfg.data)  # which they keep
    assert isinstance(data, Streams)
    if not data.train:
        raise HarkError("no source is named: data.train=[path/to/train.jsonl]")
    return Lanes(open_streams(data.train, data), data, job.cfg.run.seed)


def of_streams(job: Job, data: Streams) -> Speech:
    lanes, seed = job.get(lanes_of), job.cfg.run.seed
    streams, rng = lanes.streams, np.random.default_rng(seed)
    loader = StreamLoader(replace(data, headers=False), streams, None, seed)  # of noise and rooms
    whole = list(drawn(streams, lanes.counts, job.sample, rng))
    clips = [
        clip
        for each in whole
        for clip in lanes.slices.of(each, streams[each.source].tags, rng.random(DRAWS).tolist())
    ]
    left_out = dict(lanes.slices.left_out)

    def hear(_job: Job, wanted: int) -> Iterator[Loaded]:
        for clip in clips[:wanted]:
            yield loader.load(Portion(0, 0, 0, [clip]))

    seconds = sum(
        count * stream.durations.mean() for stream, count in zip(streams, lanes.counts, strict=True)
    )
    asked = len(clips) + sum(left_out.values())
    return Speech(sum(lanes.counts), float(seconds), lanes.durations(), left_out, asked, hear)


def drawn(
    streams: Sequence[Stream], counts: Sequence[int], size: int, rng: np.random.Generator
) -> Iterator[Clip]:
    """Draw about `size` utterances, of each stream by how often it is heard and at least one, in random order."""
    whose = np.repeat(
        np.arange(len(streams)), [max(1, round(size * count / sum(counts))) for count in counts]
    )
    for number in rng.permutation(whose).tolist():
        stream = streams[number]
        edges = np.cumsum([len(shard.durations) for shard in stream.shards])
        row = int(rng.integers(len(stream)))
        place = int(np.searchsorted(edges, row, "right"))
        shard = stream.shards[place]
        start = row - int(edges[place]) + len(shard.durations)
        for clip in shard.clips(start, start + 1):
            yield clip._replace(source=number, row=row)
