"""What was found in a file, kept where it need not be looked for again: columns, and how much was left out."""

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data.scan import stamp
from research.errors import HarkError

log = logging.getLogger(__name__)

VERSION = 1  # rises when what is kept means something else than before

FAULTS = (OSError, EOFError, zlib.error)  # of reading a file, plain or gzipped

Columns = NDArray[np.void]  # (U,)
Counts = dict[str, int]  # why something is not among the rows -> how often


class Index(NamedTuple):
    rows: Columns
    counts: Counts
    stamp: list[int]  # of the file, as it was when it was read


class Place(NamedTuple):
    """Where the index of a file is kept."""

    path: Path
    kind: str  # a file may be read in more than one way
    dtype: np.dtype[Any]

    def file(self) -> Path:
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        name = hashlib.sha256(bytes(self.path)).hexdigest()[:16]
        return Path(root) / "hark" / "streams" / f"{name}.{self.kind}"


def load(place: Place) -> Index | None:
    """Read an index, if it is there, whole, and of this version of the file. HarkError: the file cannot be read."""
    try:
        now = stamp(place.path)
    except OSError as error:
        raise unreadable(place.path, error) from None
    try:
        with place.file().open("rb") as kept:
            head = json.loads(kept.readline())
            rows: Columns = np.load(kept)
    except (OSError, ValueError, EOFError):
        return None
    if head["stamp"] != now or head["version"] != VERSION or rows.dtype != place.dtype:
        return None
    return Index(rows, head["counts"], now)


def make(place: Place, scan: Callable[[Path], tuple[Columns, Counts]]) -> Index:
    """Scan a file and keep what is found. HarkError: it cannot be read."""
    try:
        now = stamp(place.path)  # before: what changes meanwhile is scanned again
        index = Index(*scan(place.path), now)
    except FAULTS as error:
        raise unreadable(place.path, error) from None
    save(place.file(), index)
    return index


def save(file: Path, index: Index) -> None:
    """Keep an index; a cache folder that cannot be written costs time, nothing else."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    head = {"stamp": index.stamp, "version": VERSION, "counts": index.counts}
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            out.write(json.dumps(head).encode() + b"\n")
            np.save(out, index.rows)
        part.replace(file)
    except OSError as error:
        log.warning("%s: this cache cannot be written (%s)", file, error.strerror)


def unreadable(path: Path, error: Exception) -> HarkError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return HarkError(f"{path}: cannot be read ({reason})")
