"""A gzip file that can be read from anywhere: its unpacker is copied now and then, and goes on from the nearest copy."""

import bisect
import zlib
from functools import cache
from io import BufferedReader, FileIO, RawIOBase, UnsupportedOperation
from pathlib import Path
from typing import Any, NamedTuple

from research.data.cached import stamp

CHUNK = 1 << 16  # bytes of the file that are unpacked at once
APART = 2 << 20  # unpacked bytes between two copies; each takes some 40 KB
START = zlib.decompressobj(31)  # of gzip


class Mark(NamedTuple):
    position: int  # in what is unpacked
    offset: int  # in the file
    unpacker: Any  # as it is there


class Unzipped(RawIOBase):
    """What a gzip file unpacks to. EOFError: it ends too early; zlib.error: it is broken."""

    def __init__(self, path: Path, marks: list[Mark]) -> None:
        self.file, self.marks = FileIO(path), marks
        self.restart(Mark(0, 0, START))

    def restart(self, mark: Mark) -> None:
        self.file.seek(mark.offset)
        self.unpacker = mark.unpacker.copy()
        self.position = self.end = mark.position  # of the next byte; of the end of `ready`
        self.ready = b""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def close(self) -> None:
        self.file.close()
        super().close()

    def seek(self, position: int, whence: int = 0) -> int:
        """Go to a position from the start; there is no other `whence`."""
        if whence:
            raise UnsupportedOperation("can only seek from the start")
        after = bisect.bisect(self.marks, position, key=lambda mark: mark.position)
        nearest = self.marks[after - 1] if after else Mark(0, 0, START)
        if position < self.end - len(self.ready) or self.end < nearest.position:
            self.restart(nearest)
        while self.end < position and self.unpack():
            pass
        self.position = min(position, self.end)
        return self.position

    def readinto(self, buffer: Any) -> int:
        while self.position == self.end:
            if not self.unpack():
                return 0
        at = self.position - (self.end - len(self.ready))
        data = self.ready[at : at + len(buffer)]
        buffer[: len(data)] = data
        self.position += len(data)
        return len(data)

    def unpack(self) -> bool:
        """Unpack the next chunk; False at the end of the file."""
        data = self.file.read(CHUNK)
        if not data:
            if not self.unpacker.eof:
                raise EOFError("it ends too early")
            return False
        parts = [self.unpacker.decompress(data)]
        while rest := self.unpacker.unused_data.lstrip(b"\0"):  # another gzip file behind the first
            self.unpacker = START.copy()
            parts.append(self.unpacker.decompress(rest))
        self.ready = b"".join(parts)
        self.end += len(self.ready)
        last = self.marks[-1].position if self.marks else 0
        if self.end >= last + APART and not self.unpacker.eof:
            self.marks.append(Mark(self.end, self.file.tell(), self.unpacker.copy()))
        return True


def unzipped(path: Path) -> BufferedReader:
    """Open a gzip file. The process remembers how to go on from where it has been."""
    return BufferedReader(Unzipped(path, marks_of(path, *stamp(path))), CHUNK)


@cache
def marks_of(path: Path, size: int, changed: int) -> list[Mark]:  # noqa: ARG001  another version, other marks
    return []
