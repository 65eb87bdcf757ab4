"""What was found in a file, kept where it need not be looked for again: columns, and how much was left out."""

import json
import logging
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data.cached import cached, keep, stamp
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
        return cached("streams", self.path, f".{self.kind}")


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
    keep(place.file(), partial(dump, index))
    return index


def dump(index: Index, out: BinaryIO) -> None:
    head = {"stamp": index.stamp, "version": VERSION, "counts": index.counts}
    out.write(json.dumps(head).encode() + b"\n")
    np.save(out, index.rows)


def unreadable(path: Path, error: Exception) -> HarkError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return HarkError(f"{path}: cannot be read ({reason})")
