"""A manifest file -> its columns: every line is checked once, every audio header read once, both are cached."""

import hashlib
import logging
import os
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from research.data import audio
from research.data.entry import Entry, as_object, parse, path_of
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
BLOCK = 100_000  # lines between two signs of progress, headers between two saves
THREADS = 16  # that wait for headers: a file system answers many at once


def rows_of(path: Path, *, headers: bool) -> Rows:
    """Columns of a manifest that is in order; HarkError names the first line that is not, and counts the rest."""
    try:
        now = stamp(path)
        rows = load(path, now)
        if rows is None:
            rows = scan(path)
            save(path, now, rows)
    except OSError as error:
        raise HarkError(f"{path}: this manifest cannot be read ({error.strerror})") from None
    if headers:
        read_headers(path, now, rows)
    return rows


def scan(path: Path) -> Rows:
    """Parse every line."""
    blocks: list[Rows] = []
    lines: list[tuple[float | bool, ...]] = []
    wrong: list[str] = []
    position, folder = 0, str(path.parent)
    with path.open("rb") as file, progress() as bar:
        task = bar.add_task(f"reading {path.name}", total=path.stat().st_size)
        for number, line in enumerate(file, 1):
            try:
                if not line.isspace():
                    lines.append((*parse(line, folder), position, len(line), number))
            except ValueError as error:
                wrong.append(f"{path}:{number}: {error}")
            position += len(line)
            if number % BLOCK == 0:
                blocks.append(columns(lines))
                lines.clear()
                bar.update(task, completed=position)
    refuse(wrong)
    return np.concatenate([*blocks, columns(lines)])


def columns(lines: Sequence[tuple[float | bool, ...]]) -> Rows:
    rows = np.zeros(len(lines), ROW)
    for name, values in zip(
        [*Entry._fields, "start", "size", "line"], zip(*lines, strict=True), strict=False
    ):
        rows[name] = values
    return rows


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


def progress() -> Progress:
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def stamp(path: Path) -> list[int]:
    """What changes when a file does."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def cache_of(path: Path) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "hark" / "manifests" / f"{hashlib.sha256(bytes(path)).hexdigest()[:16]}.npz"


def load(path: Path, now: Sequence[int]) -> Rows | None:
    """Columns from the cache, if they are there, whole, and of this version of the manifest."""
    try:
        with np.load(cache_of(path)) as kept:
            rows: Rows = kept["rows"]
            return rows if kept["stamp"].tolist() == list(now) and rows.dtype == ROW else None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def save(path: Path, now: Sequence[int], rows: Rows) -> None:
    """Keep the columns; a cache folder that cannot be written costs time, nothing else."""
    file = cache_of(path)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            np.savez(out, rows=rows, stamp=now)
        part.replace(file)
    except OSError as error:
        log.warning("%s: the cache of %s cannot be written (%s)", file, path, error.strerror)
