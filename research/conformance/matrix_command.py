"""`make matrix`: every cell of the matrix, over all cores. Exit code 1 if one fails."""

import os
import re
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from math import prod
from multiprocessing import get_context

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from research.conformance.matrix import AXES, Cell, axis, cells, legal, problem, refusal
from research.engine.gangs import start

CHUNK = 400  # cells that a process does before it tells of them

Outcome = tuple[Cell, str, str]  # why it is refused, what is wrong with it


def main() -> int:
    everything = list(cells())
    chunks = [everything[k : k + CHUNK] for k in range(0, len(everything), CHUNK)]
    outcomes: list[Outcome] = []
    spawn = get_context("spawn")
    with (
        ProcessPoolExecutor(os.cpu_count(), spawn, initializer=torch.set_num_threads, initargs=(1,)) as pool,
        Progress(console=Console(stderr=True)) as progress,
    ):
        bar = progress.add_task("cells", total=len(everything))
        for done in as_completed([pool.submit(work, chunk) for chunk in chunks]):
            outcomes += done.result()
            progress.advance(bar, len(done.result()))
    return told(outcomes)


def work(some: list[Cell]) -> list[Outcome]:
    """Step over the legal ones of some cells."""
    ranks = start("cpu")
    asked = [(cell, refusal(cell)) for cell in some]
    return [(cell, reason, "" if reason else problem(cell, ranks)) for cell, reason in asked]


def told(outcomes: list[Outcome]) -> int:
    """Print the count, the reasons and the failures."""
    refused = Counter(general(cell, reason) for cell, reason, _ in outcomes if reason)
    failed = [(cell, wrong) for cell, _, wrong in outcomes if wrong]
    taken = {cell for cell, reason, _ in outcomes if not reason}
    failed += [(cell, "the quick count is wrong about it") for cell in taken.symmetric_difference(legal())]
    table = Table("refused", "why", box=None)
    for reason, times in refused.most_common():
        table.add_row(str(times), reason)
    Console().print(table)
    for cell, wrong in failed:
        print(f"failed: {cell}: {wrong}")
    print(count(len(outcomes) - refused.total()))
    print(f"{refused.total()} refused for {len(refused)} reasons, {len(failed)} failed")
    return int(bool(failed))


def general(cell: Cell, reason: str) -> str:
    """A reason without the names of its cell and without numbers."""
    for kind, name in zip(AXES, cell, strict=True):
        reason = re.sub(rf"\b{kind}=({name}|{name.split('_tiny')[0]})\b", f"{kind}=*", reason)
    return re.sub(r"\b\d+\b", "N", reason)


def count(taken: int) -> str:
    """The line that the README has of it."""
    sizes = {kind: len(axis(kind)) for kind in AXES}
    parts = " x ".join(f"{size} {kind}s" for kind, size in sizes.items())
    return f"{parts} = {prod(sizes.values()):,} combinations, {taken:,} legal"


if __name__ == "__main__":
    sys.exit(main())
