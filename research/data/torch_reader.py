"""Loading ahead in worker processes of torch: the reader that works everywhere."""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from research.errors import HarkError

T = TypeVar("T")
R = TypeVar("R")


class Calls(Dataset[R | HarkError], Generic[T, R]):
    """`load` as a data set, indexed by what is to be loaded."""

    def __init__(self, load: Callable[[T], R]) -> None:
        self.load = load

    def __getitem__(self, item: T) -> R | HarkError:
        try:
            return self.load(item)
        except HarkError as error:  # as a value: torch would bury an exception's message in a traceback
            return error


def read(items: Iterable[T], load: Callable[[T], R], workers: int, *, pin: bool = False) -> Iterator[R]:
    """Give `load(item)` for every item, in order; `workers=0` loads in this process. Draws no random number.

    With `pin`, results pin their memory (`pin_memory`) in a thread of this process, where there is a GPU.
    """
    results = DataLoader(
        Calls(load),
        sampler=items,  # items themselves travel to the workers, so a plan stays in this process
        batch_size=None,
        num_workers=workers,
        collate_fn=same,
        pin_memory=pin,
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),
    )
    for result in results:
        if isinstance(result, HarkError):
            raise result
        yield result


def same(result: R) -> R:
    return result


def outlive_signals(_: int) -> None:
    """Leave stopping to the main process: a cluster signals every process, and this step still needs its batch."""
    for name in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(name, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=obey, args=(os.getppid(),), daemon=True).start()


def obey(parent: int) -> None:
    """End this process when `parent` wants it to, and nobody else."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
