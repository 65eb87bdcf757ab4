"""Packed files as folders again; see packed.py."""

import hashlib
import json
import shutil
import uuid
from pathlib import Path

from research.analysis.digest import FILES
from research.data.cached import cached
from research.errors import HarkError

SCHEMA = 1
ENDING = ".jsonl"
BYTES = "surrogateescape"  # what is no text comes back as the bytes that it was


def unpacked(file: Path) -> Path:
    """Give a folder of runs that holds what a packed file does, in the user's cache folder.

    HarkError when the file is damaged, or when nothing can be written there.
    """
    data = file.read_bytes()
    folder = cached("packed", Path(hashlib.sha256(data).hexdigest()), "")
    if folder.exists():
        return folder
    texts = read(file, data)
    part = folder.with_name(f"{folder.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        for name, text in texts.items():
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(text.encode(errors=BYTES))
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        if not folder.exists():  # another process was no faster
            raise HarkError(
                f"{folder}: {file} cannot be unpacked there ({error.strerror}); set XDG_CACHE_HOME to a folder of yours"
            ) from None
    return folder


def read(file: Path, data: bytes) -> dict[str, str]:
    """Path inside the folder -> text; HarkError names the line that is wrong."""
    found: dict[str, str] = {}
    shared: dict[str, str] = {}
    for number, line in enumerate(data.splitlines(), 1):
        try:
            value = json.loads(line)
            if number == 1:
                check(file, value["schema"])
                found, shared = dict(value["files"]), value["texts"]
                continue
            files = value["files"] | {name: shared[key] for name, key in value["same"].items()}
            found |= {f"{value['run']}/{name}": text for name, text in files.items()}
        except (ValueError, KeyError, TypeError):
            raise HarkError(
                f"{file}:{number}: is no line of a packed file, or damaged; pack it anew"
            ) from None
    if wrong := [name for name in found if not inside(name)]:
        raise HarkError(f"{file}: holds {wrong[0]}, which is no file of a run; pack it anew")
    if not found:
        raise HarkError(f"{file}: is empty; pack it anew")
    return found


def check(file: Path, schema: int) -> None:
    if schema != SCHEMA:
        raise HarkError(f"{file}: has schema {schema}, and this code reads {SCHEMA}; update hark")


def inside(name: str) -> bool:
    """Whether a path is that of a run's file, or of sweep.json, and leads nowhere else."""
    folder, _, last = name.rpartition("/")
    plain = ".." not in name.split("/") and not name.startswith("/")
    return plain and (last in FILES if folder.count("/") == 0 else name.startswith("sweeps/"))
