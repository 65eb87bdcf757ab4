"""A shard: lines of a file, each read again when it is wanted, and the tar that holds their audio, if one does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data.cached import stamp
from research.data.entry import as_object, name_of, path_of
from research.data.streams import lines
from research.data.streams.clip import Address, Clip, Format
from research.data.streams.index import FAULTS, unreadable
from research.errors import HarkError

Ints = NDArray[np.int64]


class Audio(NamedTuple):
    """Where the audio of a shard's utterances lies."""

    tar: str
    offsets: Ints  # (U,) bytes
    sizes: Ints  # (U,) bytes

    def address(self, row: int) -> Address:
        return Address(self.tar, int(self.offsets[row]), int(self.sizes[row]))


@dataclass
class Lines:
    """Utterances of a file; nothing is kept of them but where they are, and how long."""

    name: str
    path: Path
    format: Format
    durations: NDArray[np.float32]  # (U,) s
    starts: Ints  # (U,) of the lines, bytes into the file as it is unpacked
    audio: Audio | None
    stamps: dict[Path, list[int]]  # of the files, as they were indexed

    def clips(self, start: int, stop: int) -> Iterator[Clip]:
        """Utterances `start` to `stop`, whole. HarkError: a file changed since it was indexed, or cannot be read."""
        try:
            self.check()
            with lines.opened(self.path) as file:
                for row in range(start, stop):
                    file.seek(int(self.starts[row]))
                    yield self.clip(row, file.readline())
        except FAULTS as error:
            raise unreadable(self.path, error) from None

    def clip(self, row: int, line: bytes) -> Clip:
        audio = self.audio.address(row) if self.audio else None
        folder = str(self.path.parent)
        return Clip(float(self.durations[row]), 0.0, 1.0, 0, row, self.format, line, folder, audio)

    def check(self) -> None:
        for path, before in self.stamps.items():
            if stamp(path) != before:
                raise HarkError(f"{path}: changed while it was in use; start again")

    def where(self, row: int) -> str:
        return lines.where(self.path, int(self.starts[row]))

    def id(self, row: int) -> str:
        found = as_object(lines.line_at(self.path, int(self.starts[row])))
        given = found.get("id")
        return name_of(found, path_of(found, str(self.path.parent))) if given is None else str(given)
