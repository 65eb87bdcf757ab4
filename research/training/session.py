"""What a command holds while it trains: its ranks, its signals, the folder of its run."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from research import runs
from research.compose import Composed
from research.engine.gangs import Ranks, start
from research.training.memory import keep_freed_memory
from research.training.signals import StopFlag


@contextmanager
def processes(device: str) -> Iterator[tuple[Ranks, StopFlag]]:
    """Join the ranks of this command and listen for signals; leave both at the end."""
    keep_freed_memory()
    ranks = start(device)
    try:
        with StopFlag() as flag:
            yield ranks, flag
    finally:
        ranks.close()


@contextmanager
def claim(composed: Composed[Any], ranks: Ranks) -> Iterator[Path]:
    """Make or find the folder of a run, and hold it."""
    path = runs.folder(composed.config)
    with ExitStack() as held:
        if ranks.rank == 0:
            runs.create(composed.config, composed.choices, composed.overrides)
            held.enter_context(runs.only_one(path))
        ranks.barrier()
        yield path
