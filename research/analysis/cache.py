"""What was read of run folders, kept in the user's cache folder: only what changed is read again."""

import hashlib
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec
from rich.progress import track

from research.analysis import digest as reader
from research.analysis import probed, reading
from research.analysis.digest import FILES, Digest
from research.data.cached import cached, keep, stamp

MANY = 200  # folders to read from which on a bar is shown

log = logging.getLogger(__name__)


class Known(msgspec.Struct):
    stamps: list[list[int]]  # of each of FILES; nothing for one that is not there
    digest: Digest


class Kept(msgspec.Struct):
    code: str = ""  # hash of what makes digests: others are made anew
    runs: dict[str, Known] = {}  # by path


def digests(root: Path, folders: Sequence[Path]) -> list[Digest]:
    """Read run folders that lie in `root`, as far as they have changed since the last time."""
    file = cached("runs", root.resolve(), ".msgpack")
    known = read(file)
    stamps = {str(folder): stamps_of(folder) for folder in folders}
    new = [
        folder
        for folder in folders
        if (old := known.get(str(folder))) is None or old.stamps != stamps[str(folder)]
    ]
    for folder in track(new, "reading runs", transient=True, disable=len(new) < MANY):
        known[str(folder)] = Known(stamps[str(folder)], reader.digest(folder))
    if new:
        kept = msgspec.msgpack.encode(Kept(code(), known))
        keep(file, lambda out: out.write(kept))
    return [known[str(folder)].digest for folder in folders]


def read(file: Path) -> dict[str, Known]:
    try:
        kept = msgspec.msgpack.decode(file.read_bytes(), type=Kept)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        log.warning("%s: this cache cannot be read, and is made anew (%s)", file, error)
        return {}
    return kept.runs if kept.code == code() else {}


def stamps_of(folder: Path) -> list[list[int]]:
    found = []
    for name in FILES:
        try:
            found.append(stamp(folder / name))
        except FileNotFoundError:
            found.append([])
    return found


@cache
def code() -> str:
    """Hash of the files that make a digest."""
    files = [Path(module.__file__ or "") for module in (reader, reading, probed)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
