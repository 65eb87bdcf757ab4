"""What `data.train` lists -> the sources of a mixture, each with its share."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.config import Streams
from research.data.streams.clip import Shard
from research.data.streams.layouts import of_paths
from research.data.streams.shards import shards_of
from research.errors import HarkError


@dataclass
class Stream:
    """A source: what one entry names, as shards."""

    name: str
    shards: list[Shard]
    share: float  # of the mixture: all of them sum to 1
    tags: dict[str, Any] = field(default_factory=dict)  # what the entry says of all its utterances
    left_out: dict[str, int] = field(default_factory=dict)  # reason -> utterances

    def __len__(self) -> int:
        return sum(len(shard.durations) for shard in self.shards)

    @property
    def durations(self) -> NDArray[np.float32]:
        """Seconds, (U,), shard after shard."""
        return np.concatenate([shard.durations for shard in self.shards])


def open_streams(entries: Sequence[Any], cfg: Streams) -> list[Stream]:
    """Open all sources. HarkError names what is wrong with an entry, a file or a line."""
    streams = []
    for entry in entries:
        if not isinstance(entry, str):
            raise HarkError(f"{entry}: is no path")
        shards, left_out = shards_of(of_paths([entry], ""), skip_missing=False)
        streams.append(Stream(entry, list(shards), 0.0, {}, left_out))
    total = sum(len(stream) for stream in streams)
    for stream in streams:
        stream.share = len(stream) / total
    return streams
