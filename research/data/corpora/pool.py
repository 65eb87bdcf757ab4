"""Shards made side by side."""

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

from research.data.corpora.shard import make
from research.data.corpora.sharding import Job, Made
from research.errors import HarkError


def each(jobs: Sequence[Job], workers: int) -> Iterator[Made]:
    """Make shards, in order: in processes of their own, or here when one is enough."""
    if workers <= 1:
        yield from map(make, jobs)
        return
    try:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=follow) as pool:
            try:
                yield from pool.map(make, jobs)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
    except BrokenProcessPool:
        raise HarkError(
            "a worker was killed, perhaps for want of memory; the same command goes on (--workers: how many)"
        ) from None


def follow() -> None:
    """End this worker when its parent is gone, however that ended, and at Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=end_with, args=(parent_process(),), daemon=True).start()


def end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def progress() -> Progress:
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
