"""A manifest file -> its columns: every line is checked once, every audio header read once, both are cached."""

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from research.data import audio
from research.data.cached import cached, keep, stamp
from research.data.entry import Entry, as_object, parse, path_of, seconds_of
from research.data.pieces import by_pieces, progress
from research.errors import HarkError

log = logging.getLogger(__name__)

ROW = np.dtype(
    [
        ("duration", "f8"),  # s
        ("offset", "f8"),  # s into the file
        ("key", "u8"),  # hash of the id
        ("skip", "?"),  # marked `_skipme`
        ("stored", "?"),  # names features: its audio need not be here
        ("start", "i8"),  # of the line, bytes into the manifest
        ("size", "i4"),  # of the line, bytes
        ("line", "i4"),  # its number, from 1
        ("rate", "i4"),  # Hz, of the audio file; 0 while its header is not read
        ("channels", "i2"),
        ("source", "i2"),  # which manifest
    ]
)
Rows = NDArray[np.void]  # (U,) of ROW
Floats = NDArray[np.float64]
A = TypeVar("A", Rows, Floats)
T = TypeVar("T")
BLOCK = 100_000  # headers between two saves
THREADS = 16  # that wait for headers: a file system answers many at once


class Worked(NamedTuple, Generic[A]):
    """What a process made of a piece of a manifest."""

    made: A
    wrong: list[tuple[int, str]]  # number of the line in the piece, from 1, and its fault
    lines: int


def rows_of(path: Path, *, headers: bool) -> Rows:
    """Columns of a manifest that is in order; HarkError names the first line that is not, and counts the rest."""
    try:
        now = stamp(path)
        rows = load(path, now)
        if rows is None:
            rows = scan(path)
            save(path, now, rows)
    except OSError as error:
        raise unreadable(path, error) from None
    if headers:
        read_headers(path, now, rows)
    return rows


def scan(path: Path) -> Rows:
    """Parse every line."""
    parts = gather(path, columns)
    for lines, rows in parts:
        rows["line"] += lines
    return np.concatenate([np.zeros(0, ROW), *(rows for _, rows in parts)])


def durations_of(path: Path) -> Floats:
    """Seconds of all utterances of a manifest, (U,), from its cache or else from its lines; HarkError as above.

    That no id is taken twice and that the audio is there are left for `load` to find out.
    """
    try:
        rows = load(path, stamp(path))
        parts = [] if rows is not None else gather(path, seconds)
    except OSError as error:
        raise unreadable(path, error) from None
    found = rows["duration"] if rows is not None else np.concatenate([np.zeros(0), *(d for _, d in parts)])
    return found[found > 0]  # none where a line is marked `_skipme`


def unreadable(path: Path, error: OSError) -> HarkError:
    return HarkError(f"{path}: this manifest cannot be read ({error.strerror})")


def gather(path: Path, work: Callable[[str, int, list[bytes]], Worked[A]]) -> list[tuple[int, A]]:
    """Give what `work` makes of each piece of a manifest, with the number of lines before it."""
    parts: list[tuple[int, A]] = []
    wrong: list[str] = []
    lines = 0
    for made, told, count in by_pieces(path, partial(work, str(path.parent))):
        parts.append((lines, made))
        wrong += [f"{path}:{lines + number}: {error}" for number, error in told]
        lines += count
    refuse(wrong)
    return parts


def columns(folder: str, position: int, lines: list[bytes]) -> Worked[Rows]:
    """Rows of lines that are numbered from 1 and begin at byte `position`."""
    entries, numbers, wrong = each(parse, folder, lines)
    rows = np.zeros(len(entries), ROW)
    for name, values in zip(Entry._fields, zip(*entries, strict=True), strict=False):
        rows[name] = values
    sizes = np.array([len(line) for line in lines])
    rows["line"] = numbers
    rows["size"] = sizes[rows["line"] - 1]
    rows["start"] = position + (np.cumsum(sizes) - sizes)[rows["line"] - 1]
    return Worked(rows, wrong, len(lines))


def seconds(folder: str, position: int, lines: list[bytes]) -> Worked[Floats]:  # noqa: ARG001  as `columns`
    """Durations of lines that are numbered from 1, (U,)."""
    found, _, wrong = each(seconds_of, folder, lines)
    return Worked(np.array(found), wrong, len(lines))


def each(
    read: Callable[[bytes, str], T], folder: str, lines: list[bytes]
) -> tuple[list[T], list[int], list[tuple[int, str]]]:
    """What `read` makes of lines that are not blank, their numbers, and the numbers and faults of the wrong ones."""
    found: list[T] = []
    numbers: list[int] = []
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            if not line.isspace():
                found.append(read(line, folder))
                numbers.append(number)
        except ValueError as error:
            wrong.append((number, str(error)))
    return found, numbers, wrong


def read_headers(path: Path, now: Sequence[int], rows: Rows) -> None:
    """Fill in rate and channels, in place, and refuse missing files and segments past the end of theirs.

    A header that cannot be read stays unknown: decoding will tell, and count. What is known is saved as it comes.
    """
    todo = np.flatnonzero((rows["rate"] == 0) & ~rows["skip"] & ~rows["stored"])
    if len(todo) == 0:
        return
    wrong: list[str] = []
    with path.open("rb") as file, ThreadPoolExecutor(THREADS) as pool, progress() as bar:
        task = bar.add_task(f"headers of {path.name}", total=len(todo))
        for part in np.array_split(todo, -(-len(todo) // BLOCK)):
            answers = pool.map(lambda i: read_header(file.fileno(), path, rows[i : i + 1]), part)
            wrong += [
                f"{path}:{rows['line'][i]}: {answer}"
                for i, answer in zip(part, answers, strict=True)
                if answer
            ]
            save(path, now, rows)
            bar.advance(task, len(part))
    refuse(wrong)


def read_header(manifest: int, path: Path, row: Rows) -> str:
    """Fill in one row, (1,), or say what is wrong with it."""
    where = path_of(line_at(manifest, row[0]), str(path.parent))
    try:
        found = audio.header(where)
    except audio.UndecodableError as error:
        return "" if Path(where).exists() else str(error)
    end = float(row["offset"][0] + row["duration"][0])
    if end > found.seconds + audio.SLACK:
        return f"the segment ends at {end:.2f} s, {where} at {found.seconds:.2f} s"
    row["rate"], row["channels"] = found.rate, found.channels
    return ""


def line_at(manifest: int, row: np.void) -> dict[str, object]:
    """Read one line again. `pread` moves no position, so threads and forked workers can share the descriptor."""
    return as_object(os.pread(manifest, int(row["size"]), int(row["start"])))


def refuse(wrong: Sequence[str]) -> None:
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise HarkError(wrong[0] + more)


def version(now: Sequence[int]) -> str:
    return "-".join(f"{fact:x}" for fact in now)


def cache_of(path: Path, version: str = "*") -> Path:
    return cached("manifests", path, f"-{version}.npy")


def load(path: Path, now: Sequence[int]) -> Rows | None:
    """Columns from the cache, if they are there, whole, and of this version of the manifest."""
    try:
        rows: Rows = np.load(cache_of(path, version(now)))
    except (OSError, ValueError, EOFError):
        return None
    return rows if rows.dtype == ROW else None


def save(path: Path, now: Sequence[int], rows: Rows) -> None:
    """Keep the columns of this version alone; a cache folder that cannot be written costs time, nothing else."""
    file, others = cache_of(path, version(now)), cache_of(path)
    if keep(file, lambda out: np.save(out, rows)):
        for other in set(file.parent.glob(others.name)) - {file}:
            other.unlink(missing_ok=True)
