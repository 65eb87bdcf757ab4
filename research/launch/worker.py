"""The process that does real steps of a run at any batch size. It may be killed at any time; `bench.py` watches it."""

import ctypes
import gc
import os
import platform
import signal
import statistics
import sys
import time
import traceback
from dataclasses import dataclass, replace
from enum import Enum
from itertools import product, repeat
from multiprocessing.connection import Connection

import psutil
import torch

from research import registry
from research.config import Config
from research.contracts import Stat
from research.engine.gangs import Ranks, start
from research.engine.parallel import place, wrap
from research.errors import HarkError
from research.launch.trial import full_batch
from research.training import optimizer as optim
from research.training.data import Fed
from research.training.given import stand_in
from research.training.loop import objective_of
from research.training.memory import keep_freed_memory
from research.training.stats import StatBag
from research.training.step import Student, train_step

SHORT_OF_MEMORY = (  # what torch says, and libraries that allocate beside it
    "out of memory",
    "can't allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_INTERNAL_ERROR",
    "CUFFT_ALLOC_FAILED",
    "CUFFT_INTERNAL_ERROR",
    "CUSOLVER_STATUS_ALLOC_FAILED",
)


Batches = list[tuple[int, float]]  # rows and seconds of each


class Outcome(Enum):
    fits = "fits"
    full = "full"  # it does not fit
    ruined = "ruined"  # it does not fit, and what is left of the process is good for nothing
    refused = "refused"  # the config is wrong
    broken = "broken"  # anything else is wrong
    left = "left"  # another rank's worker failed, and this one waited for it


@dataclass(frozen=True)
class Answer:
    """What a worker says of a trial."""

    outcome: Outcome
    peak: int = 0  # bytes on a GPU; on a CPU, whoever watches knows
    time: float | None = None  # s per step
    said: str = ""


@dataclass(frozen=True)
class Place:
    """Where a worker is."""

    kind: str  # cpu or cuda
    name: str
    memory: int  # bytes: all of a GPU's, what is free for this rank of a CPU's


def serve(pipe: Connection, cfg: Config, environment: dict[str, str]) -> None:
    """Say where this is, then do the trials that come, (batches, steps, limit), while anybody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that watches
    os.environ.update(environment)
    try:
        registry.load_plugins()
        keep_freed_memory()
        ranks = start(cfg.run.device)
        pipe.send(place_of(ranks.device))
        worker = Worker(cfg, ranks)
        while True:
            pipe.send(worker.attempt(*pipe.recv()))
    except (EOFError, BrokenPipeError):
        return
    except HarkError as error:
        pipe.send(Answer(Outcome.refused, said=str(error)))
    except Exception:  # noqa: BLE001  it is raised again where the user can see it
        pipe.send(Answer(Outcome.broken, said=traceback.format_exc()))


def place_of(device: torch.device) -> Place:
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return Place("cuda", facts.name, facts.total_memory)
    name = f"{platform.processor() or platform.machine()} cpu, {torch.get_num_threads()} threads"
    return Place(
        "cpu", name, psutil.virtual_memory().available // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    )


class Worker:
    """A model that is trained on noise, at no learning rate: everything is computed and kept, nothing moves."""

    def __init__(self, cfg: Config, ranks: Ranks) -> None:
        self.cfg, self.ranks = replace(cfg, optimizer=replace(cfg.optimizer, lr=0.0)), ranks
        self.student: Student | None = None

    def attempt(self, batches: Batches, steps: int, limit: int) -> Answer:
        """Do a step of each batch to warm up and `steps` more, and leave nothing of them behind.

        `full` or `ruined`: the memory of the device, or `limit` bytes of a GPU, did not do.
        """
        answer = self.tried(batches, steps, limit)
        if self.student is not None:
            release(self.student)
        return answer

    def tried(self, batches: Batches, steps: int, limit: int) -> Answer:
        try:
            hold(self.ranks.device, limit)
            if self.student is None:
                self.student = student_of(self.cfg, self.ranks)
            return steps_of(self.student, batches, steps)
        except (RuntimeError, MemoryError) as error:
            if not short_of_memory(error):
                raise
            whole = self.student is not None and isinstance(error, torch.OutOfMemoryError)
            said = repr(error)
        return Answer(Outcome.full if whole else Outcome.ruined, said=said)


def hold(device: torch.device, limit: int) -> None:
    """Let torch take no more than `limit` bytes of a GPU."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)


def student_of(cfg: Config, ranks: Ranks) -> Student:
    """Put together what `Run` trains, without a folder."""
    task = place(objective_of(cfg), ranks, cfg.train.parallel)
    adamw = optim.adamw(task, cfg.optimizer)
    task.enter(0)
    task.train()
    augment = registry.build(cfg.augmentation).to(ranks.device)
    return Student(task, wrap(task, ranks), augment, adamw, ranks, cfg)


def steps_of(student: Student, batches: Batches, steps: int) -> Answer:
    """Do the steps 0 to `steps` of every batch, in turn, each with the draws of that step; time all but the first."""
    device = student.ranks.device
    bag, times = StatBag(device), []
    for step, (rows, seconds) in product(range(1 + steps), batches):
        batch = stand_in(full_batch(student.cfg, rows, seconds), student.task)
        fed = Fed(batch, rows * seconds, Stat(torch.tensor(0.0)))
        begin = time.perf_counter()
        outcome = train_step(student, repeat(fed), step, bag, stop=False)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begin)
        if not outcome.sound:
            raise HarkError(
                f"{rows} rows of {seconds:g} s of noise give a loss or gradient that is not finite; type "
                "train.precision=fp32, or look for what divides by nothing"
            )
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Answer(Outcome.fits, peak, statistics.median(times[len(batches) :]))


def release(student: Student) -> None:
    """Give back what a trial took, so that the next is not charged for it."""
    student.optimizer.zero_grad()
    gc.collect()
    device = student.ranks.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def short_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it came from, is one of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if any(sign in str(error) for sign in SHORT_OF_MEMORY):
        return True
    return error.__cause__ is not None and short_of_memory(error.__cause__)
