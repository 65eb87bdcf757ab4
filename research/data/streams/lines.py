"""A file of lines, plain or gzipped -> columns: every line is checked once; lines are read again when they are wanted."""

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from research.data.scan import refuse
from research.data.streams.clip import Format
from research.data.streams.index import Index, kept

PLAIN = np.dtype(
    [
        ("duration", "f4"),  # s
        ("key", "u8"),  # hash of the id
        ("start", "i8"),  # of the line, bytes into the file as it is unpacked
    ]
)
BLOCK = 10_000  # lines that are objects at a time

Facts = tuple[float, ...] | str  # the columns before `start`, or why the line is left out


class Kind(NamedTuple):
    """What the lines of a file are."""

    name: str
    format: Format
    dtype: np.dtype[Any]
    facts: Callable[[bytes, str], Facts]  # of a line and its folder; ValueError says what is wrong with it


def lines(path: Path, kind: Kind) -> Index:
    """Check every line of a file. HarkError names the first that is wrong, and counts the rest."""
    return kept(path, kind.name, kind.dtype, lambda path: scan(path, kind))


def scan(path: Path, kind: Kind) -> Index:
    blocks = [np.zeros(0, kind.dtype)]
    found: list[tuple[float, ...]] = []
    wrong: list[str] = []
    out: Counter[str] = Counter()
    position, folder = 0, str(path.parent)
    with opened(path) as file:
        for number, line in enumerate(file, 1):
            try:
                if not line.isspace():
                    facts = kind.facts(line, folder)
                    if isinstance(facts, str):
                        out[facts] += 1
                    else:
                        found.append((*facts, position))
            except ValueError as error:
                wrong.append(f"{path}:{number}: {error}")
            position += len(line)
            if len(found) == BLOCK:
                blocks.append(np.array(found, kind.dtype))
                found.clear()
    refuse(wrong)
    return Index(np.concatenate([*blocks, np.array(found, kind.dtype)]), dict(out))


def opened(path: Path) -> BinaryIO:
    """Open a file of lines; positions are those of what it unpacks to."""
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def where(path: Path, start: int) -> str:
    """Give `train.jsonl:17` for the line that starts there."""
    with opened(path) as file:
        before = sum(file.read(min(1 << 20, start - at)).count(b"\n") for at in range(0, start, 1 << 20))
    return f"{path}:{before + 1}"


def line_at(path: Path, start: int) -> bytes:
    with opened(path) as file:
        file.seek(start)
        return file.readline()
