"""Files -> shards: every duration known, every utterance found in its file and its tar."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data.scan import stamp
from research.data.streams import tar
from research.data.streams.clip import Address, Clip, Format
from research.data.streams.index import unreadable
from research.data.streams.layouts import Files
from research.data.streams.lines import lines, opened, where
from research.data.streams.nemo import NEMO_TARRED
from research.errors import HarkError

Ints = NDArray[np.int64]


class Tar(NamedTuple):
    """Where the audio of a shard's utterances lies."""

    path: Path
    offsets: Ints  # (U,) bytes
    sizes: Ints  # (U,) bytes


@dataclass
class Lines:
    """A shard: lines of a file, which are read again whenever they are wanted."""

    name: str
    path: Path
    format: Format
    durations: NDArray[np.float32]  # (U,) s
    starts: Ints  # (U,) of the lines, bytes into the file as it is unpacked
    stamp: list[int]  # of the file
    tar: Tar | None

    def clips(self, start: int, stop: int) -> Iterator[Clip]:
        """Utterances `start` to `stop`, whole. HarkError: the file changed since it was indexed."""
        folder = str(self.path.parent)
        try:
            if stamp(self.path) != self.stamp:
                raise HarkError(f"{self.path}: changed while it was in use; start again")
            with opened(self.path) as file:
                for row in range(start, stop):
                    file.seek(int(self.starts[row]))
                    line, duration = file.readline(), float(self.durations[row])
                    yield Clip(duration, 0.0, 1.0, 0, row, self.format, line, folder, self.address(row))
        except OSError as error:
            raise unreadable(self.path, error) from None

    def address(self, row: int) -> Address | None:
        if self.tar is None:
            return None
        return Address(str(self.tar.path), int(self.tar.offsets[row]), int(self.tar.sizes[row]))


def shards_of(files: Sequence[Files], *, skip_missing: bool) -> tuple[list[Lines], dict[str, int]]:
    """Shards of a source, and how many of its utterances are left out, by reason."""
    found: list[Lines] = []
    out: Counter[str] = Counter()
    for one in files:
        index = lines(one.lines, one.kind)
        out.update(index.counts)
        rows = index.rows
        now = stamp(one.lines)
        found.append(
            Lines(str(one.lines), one.lines, one.kind.format, rows["duration"].copy(), rows["start"].copy(), now, None)
        )
    return found, dict(out)
