"""What passes from the shards to the samplers, and on to where it is decoded."""

from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray


class Format(Enum):
    nemo = "nemo"  # a line of a NeMo manifest
    cut = "cut"  # a cut of lhotse, as JSON


class Address(NamedTuple):
    """Bytes of a file: a member of a tar."""

    path: str
    offset: int
    size: int


class Clip(NamedTuple):
    """An utterance, or a part of one, that nobody has decoded yet. lhotse's samplers look at `duration` alone."""

    duration: float  # s, as it will be heard
    start: float  # s into the utterance
    speed: float  # duration * speed seconds are read
    source: int  # which of the mixture's
    row: int  # which utterance of the source: with the epoch, what all randomness depends on
    format: Format
    line: bytes  # all that is known about the utterance, as its file says it
    folder: str  # where relative paths start
    audio: Address | None  # the audio file, whole, in place of the one that the line names; None: that one


class Shard(Protocol):
    """A file of lines, with its audio in a tar beside it or anywhere."""

    name: str
    durations: NDArray[np.float32]  # (U,) s

    def clips(self, start: int, stop: int) -> Iterator[Clip]:
        """Utterances `start` to `stop` of the shard, whole, at speed 1; `source` and `row` count within the shard."""
        ...


class Portion(NamedTuple):
    """A batch that nobody has read yet, and what has to be kept to go on after it."""

    epoch: int
    lane: int
    first: int  # the number, in its lane, of the batch that this epoch began with
    clips: list[Clip]
