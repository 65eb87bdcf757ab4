"""A file of lines, plain or gzipped -> columns: each line is checked once, and read again when it is wanted."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from research.data.pieces import by_pieces
from research.data.scan import refuse
from research.data.streams.clip import Format
from research.data.streams.index import Columns, Counts, Place
from research.data.streams.unzip import unzipped

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


class Part(NamedTuple):
    """What some lines of a file say."""

    rows: Columns
    out: Counter[str]
    wrong: list[tuple[int, str]]  # number of the line among these, from 1, and what is wrong
    lines: int


def place(path: Path, kind: Kind) -> Place:
    return Place(path, kind.name, kind.dtype)


def scan(path: Path, kind: Kind) -> tuple[Columns, Counts]:
    """Check every line of a file, in this process. HarkError names the first that is wrong, and counts the rest."""
    return joined(path, kind, blocks(path, partial(part, kind, str(path.parent))))


def scan_by_all(path: Path, kind: Kind) -> tuple[Columns, Counts]:
    """As `scan`, of a large file that is not zipped: by all cores."""
    return joined(path, kind, by_pieces(path, partial(part, kind, str(path.parent))))


def joined(path: Path, kind: Kind, parts: Iterable[Part]) -> tuple[Columns, Counts]:
    rows = [np.zeros(0, kind.dtype)]
    out: Counter[str] = Counter()
    wrong: list[str] = []
    lines = 0
    for one in parts:
        rows.append(one.rows)
        out.update(one.out)
        wrong += [f"{path}:{lines + number}: {error}" for number, error in one.wrong]
        lines += one.lines
    refuse(wrong)
    return np.concatenate(rows), dict(out)


def part(kind: Kind, folder: str, position: int, lines: list[bytes]) -> Part:
    """Columns of some lines that begin at `position`."""
    found: list[tuple[float, ...]] = []
    out: Counter[str] = Counter()
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(lines, 1):
        try:
            facts = kind.facts(line, folder) if not line.isspace() else ""
            if isinstance(facts, tuple):
                found.append((*facts, position))
            elif facts:
                out[facts] += 1
        except ValueError as error:
            wrong.append((number, str(error)))
        position += len(line)
    return Part(np.array(found, kind.dtype), out, wrong, len(lines))


def blocks(path: Path, work: Callable[[int, list[bytes]], Part]) -> Iterator[Part]:
    position = 0
    with opened(path) as file:
        while some := list(islice(file, BLOCK)):
            yield work(position, some)
            position += sum(map(len, some))


def opened(path: Path) -> BufferedReader:
    """Open a file of lines; positions are those of what it unpacks to."""
    return unzipped(path) if path.suffix == ".gz" else path.open("rb")


def where(path: Path, start: int) -> str:
    """Give `train.jsonl:17` for the line that starts there."""
    with opened(path) as file:
        before = sum(file.read(min(1 << 20, start - at)).count(b"\n") for at in range(0, start, 1 << 20))
    return f"{path}:{before + 1}"


def line_at(path: Path, start: int) -> bytes:
    with opened(path) as file:
        file.seek(start)
        return file.readline()
