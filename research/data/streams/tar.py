"""A tar -> where its members lie, by their headers alone."""

import tarfile
from pathlib import Path

import numpy as np

from research.data.entry import digest
from research.data.streams.index import Columns, Counts, Place

MEMBER = np.dtype(
    [
        ("name", "u8"),  # hash of the name
        ("stem", "u8"),  # hash of the name without its ending; 0 for what lhotse keeps beside the audio
        ("offset", "i8"),  # bytes into the tar
        ("size", "i8"),  # bytes
    ]
)
BESIDE = ("json", "nometa")
KIND = "tar"
DAMAGED = "damaged"  # counts a tar that has no end mark after its last member
BLOCK = 10_000  # members that are objects at a time


def place(path: Path) -> Place:
    return Place(path, KIND, MEMBER)


def scan(path: Path) -> tuple[Columns, Counts]:
    """Find all files of a tar; a damaged one gives what lies whole before the damage. OSError: it gives nothing."""
    size, whole = path.stat().st_size, False
    blocks = [np.zeros(0, MEMBER)]
    found: list[tuple[int, int, int, int]] = []
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # it would keep them all
                if member.isreg() and member.offset_data + member.size <= size:
                    found.append(row(member))
                if len(found) == BLOCK:
                    blocks.append(np.array(found, MEMBER))
                    found.clear()
            whole = ends(path, tar.offset)
    except tarfile.ReadError as error:
        if "end of data" not in str(error):
            raise OSError(f"not a tar, or one that is compressed: {error}") from None
    return np.concatenate([*blocks, np.array(found, MEMBER)]), {} if whole else {DAMAGED: 1}


def row(member: tarfile.TarInfo) -> tuple[int, int, int, int]:
    name = member.name.removeprefix("./")
    stem, _, ending = name.rpartition(".")
    return digest(name), 0 if ending in BESIDE else digest(stem), member.offset_data, member.size


def ends(path: Path, offset: int) -> bool:
    """Whether a tar's end mark is there."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
