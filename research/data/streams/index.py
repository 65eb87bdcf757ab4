"""What was found in a file, kept where it need not be looked for again: columns, and how much was left out."""

import hashlib
import json
import logging
import os
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from research.data.scan import stamp
from research.errors import HarkError

log = logging.getLogger(__name__)

VERSION = 1  # of what is kept: rises when an index means something else than before


class Index(NamedTuple):
    rows: NDArray[np.void]  # (U,)
    counts: dict[str, int]  # reason -> what is not among the rows


def kept(path: Path, kind: str, dtype: np.dtype[Any], make: Callable[[Path], Index]) -> Index:
    """Give the index of a file: from the cache, or made and put there. HarkError: the file cannot be read."""
    try:
        now = [*stamp(path), VERSION]
        index = load(cache_of(path, kind), now, dtype)
        if index is None:
            index = make(path)
            save(cache_of(path, kind), now, index)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, error) from None
    return index


def unreadable(path: Path, error: Exception) -> HarkError:
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return HarkError(f"{path}: cannot be read ({reason})")


def cache_of(path: Path, kind: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "hark" / "streams" / f"{hashlib.sha256(bytes(path)).hexdigest()[:16]}.{kind}.npz"


def load(file: Path, now: list[int], dtype: np.dtype[Any]) -> Index | None:
    """Read an index, if it is there, whole, and of this version of the file."""
    try:
        with np.load(file) as found:
            if found["stamp"].tolist() != now or found["rows"].dtype != dtype:
                return None
            return Index(found["rows"], json.loads(str(found["counts"])))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def save(file: Path, now: list[int], index: Index) -> None:
    """Keep an index; a cache folder that cannot be written costs time, nothing else."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            np.savez(out, rows=index.rows, stamp=now, counts=json.dumps(index.counts))
        part.replace(file)
    except OSError as error:
        log.warning("%s: this cache cannot be written (%s)", file, error.strerror)
