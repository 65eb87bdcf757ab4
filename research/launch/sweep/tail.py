"""Ends of text files that others write to."""

from dataclasses import dataclass
from pathlib import Path

REACH = 1 << 18  # bytes from the end that are looked at


def tail(file: Path, size: int) -> list[bytes]:
    """Give the last lines of a file, of `size` bytes at most; what follows the last line's end is one, too."""
    try:
        with file.open("rb") as stream:
            end = stream.seek(0, 2)
            start = stream.seek(max(0, end - size))
            lines = stream.read(size).split(b"\n")
    except FileNotFoundError:
        return []
    return lines[1:] if start else lines


def last_lines(file: Path, count: int) -> list[str]:
    """Give the last lines of a log that hold anything."""
    lines = [line for raw in tail(file, REACH) if (line := text(raw))]
    return lines[max(0, len(lines) - count) :]


def text(raw: bytes) -> str:
    """Read a line of a log; of one that was drawn again and again, such as a progress bar, the last drawing."""
    return raw.decode(errors="replace").rstrip().rpartition("\r")[2]


@dataclass
class Reader:
    """Follow a file that may not be there yet, and that may start anew."""

    file: Path
    place: int = 0  # where reading goes on

    def skip(self) -> None:
        """Go to the end."""
        self.place = self.file.stat().st_size if self.file.exists() else 0

    def lines(self) -> list[str]:
        """Give the whole lines that were added."""
        try:
            with self.file.open("rb") as stream:
                if stream.seek(0, 2) < self.place:
                    self.place = 0
                stream.seek(self.place)
                whole, end, _ = stream.read().rpartition(b"\n")
        except FileNotFoundError:
            return []
        self.place += len(whole) + len(end)
        return [text(raw) for raw in whole.split(b"\n")] if end else []
