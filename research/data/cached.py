"""Files in the user's cache folder, each of one version of another file."""

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


def stamp(path: Path) -> list[int]:
    """What changes when a file does."""
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns]


def cached(kind: str, path: Path, ending: str) -> Path:
    """Where what is known of a file is kept."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "hark" / kind / f"{hashlib.sha256(bytes(path)).hexdigest()[:16]}{ending}"


def keep(file: Path, dump: Callable[[BinaryIO], object]) -> bool:
    """Write a file whole or not at all; a cache folder that cannot be written costs time, nothing else."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as out:
            dump(out)
        part.replace(file)
    except OSError as error:
        log.warning("%s: this cache cannot be written (%s)", file, error.strerror)
        return False
    return True
