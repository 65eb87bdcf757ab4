"""A tar -> where its members lie."""

import tarfile
from os.path import splitext
from pathlib import Path

import numpy as np

from research.data.entry import digest
from research.data.streams.index import Index, kept

MEMBER = np.dtype(
    [
        ("name", "u8"),  # hash of the name
        ("stem", "u8"),  # hash of the name without its ending; 0 for what lhotse keeps beside the audio
        ("offset", "i8"),  # bytes into the tar
        ("size", "i8"),  # bytes; 0 where lhotse had no audio to write
    ]
)
BESIDE = {".json", ".nometa"}
DAMAGED = "damaged"  # count of tars that do not end as a tar does
BLOCK = 10_000


def members(path: Path) -> Index:
    """Find all files of a tar, by their headers alone. Of two with one name the later stands, as tar has it.

    A damaged tar gives what lies whole before the damage. HarkError: it cannot be read at all.
    """
    return kept(path, "tar", MEMBER, walk)


def walk(path: Path) -> Index:
    size, whole = path.stat().st_size, False
    blocks = [np.zeros(0, MEMBER)]
    found: list[tuple[int, int, int, int]] = []
    try:
        with tarfile.open(path, "r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # it would keep them all
                if member.isreg() and member.offset_data + member.size <= size:
                    found.append(row(member))
                if len(found) == BLOCK:
                    blocks.append(np.array(found, MEMBER))
                    found.clear()
            whole = ends(path, tar.offset)
    except tarfile.ReadError as error:
        if "end of data" not in str(error):
            raise OSError(f"not a tar, or one that is compressed: {error}") from None
    return Index(np.concatenate([*blocks, np.array(found, MEMBER)]), {} if whole else {DAMAGED: 1})


def row(member: tarfile.TarInfo) -> tuple[int, int, int, int]:
    name = member.name.removeprefix("./")
    stem, ending = splitext(name)
    return digest(name), 0 if ending in BESIDE else digest(stem), member.offset_data, member.size


def ends(path: Path, offset: int) -> bool:
    """Whether a tar's end mark is where its members end."""
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)
