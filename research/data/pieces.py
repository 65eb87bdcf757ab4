"""A file of lines, read in pieces by all cores."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from io import BytesIO
from multiprocessing import get_context
from pathlib import Path
from signal import SIG_IGN, SIGINT, signal
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

R = TypeVar("R")
SIZE = 8 << 20  # bytes of a piece


def by_pieces(path: Path, work: Callable[[int, list[bytes]], R]) -> Iterator[R]:
    """Give `work(position, lines)` for all pieces of a file, in order; `position` is in bytes, `work` a pickle."""
    cuts = list(ends(path))
    reading = partial(read, path, work)
    starts = [0, *cuts[:-1]]
    with progress() as bar:
        task = bar.add_task(f"reading {path.name}", total=cuts[-1] if cuts else 0)
        if len(cuts) <= 1:
            yield from map(reading, starts[: len(cuts)], cuts)
            return
        with all_cores(len(cuts)) as pool:
            for end, result in zip(cuts, pool.map(reading, starts, cuts), strict=True):
                bar.update(task, completed=end)
                yield result


def all_cores(tasks: int) -> ProcessPoolExecutor:
    """A process per core, or per task. Forked, as torch's loaders are: no module is imported again."""
    workers = min(len(os.sched_getaffinity(0)), tasks)
    return ProcessPoolExecutor(workers, get_context("fork"), signal, (SIGINT, SIG_IGN))


def ends(path: Path) -> Iterator[int]:
    """Where pieces end: after a line, some `SIZE` bytes on."""
    with path.open("rb") as file:
        size, end = os.fstat(file.fileno()).st_size, 0
        while end < size:
            file.seek(end + SIZE - 1)
            file.readline()
            end = min(file.tell(), size)
            yield end


def read(path: Path, work: Callable[[int, list[bytes]], R], start: int, end: int) -> R:
    with path.open("rb") as file:
        file.seek(start)
        return work(start, BytesIO(file.read(end - start)).readlines())


def progress() -> Progress:
    console = Console(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)
