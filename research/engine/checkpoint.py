"""Checkpoints of a run: written in the background, whole or not at all; a damaged one is passed over.

Rank 0 writes and every rank reads what it wrote, so that a run resumes on any number of ranks, whatever they share:
what they share is gathered, all else is the same on every rank or a function of (seed, step, rank).
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from fairseq2.checkpoint import StandardCheckpointManager
from fairseq2.error import OperationalError
from fairseq2.file_system import NativeLocalFileSystem
from fairseq2.gang import all_sum, create_fake_gangs
from fairseq2.utils.threading import ThreadPool
from torch import Tensor

from research.engine.files import Files, sync
from research.engine.gangs import Ranks
from research.engine.sharding import full
from research.engine.weights import DamagedError, steps
from research.errors import HarkError

HOST, NOWHERE = torch.device("cpu"), torch.device("meta")  # the other ranks keep no copy

log = logging.getLogger(__name__)


@dataclass
class State:
    """What a checkpoint holds: tensors, numbers, strings, None, and lists, tuples and dicts of them."""

    step: int  # finished optimizer steps
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    trainer: dict[str, Any]


class Checkpoints:
    """The checkpoints in one folder. All ranks make it, and call its methods together.

    `keep_last` newest and `keep_best` lowest-scored checkpoints are kept; the rest goes when a new one is whole.
    """

    def __init__(self, folder: Path, ranks: Ranks, keep_last: int, keep_best: int) -> None:
        if keep_last < 1 or keep_best < 0:
            raise HarkError(f"checkpoint.keep_last={keep_last}, keep_best={keep_best}: at least 1 and 0")
        self.folder, self.ranks, self.keep_last, self.keep_best = folder, ranks, keep_last, keep_best
        self.pool = Background()
        files = Files(folder)
        alone = create_fake_gangs(torch.device("cpu"))
        self.manager = StandardCheckpointManager(
            folder.parent, alone, NativeLocalFileSystem(), files, files, self.pool, checkpoint_dir=folder
        )
        self.current: int | None = None  # the step that was saved or loaded last
        self.kept: frozenset[int] = frozenset()  # steps that are not removed, whatever is newer
        self.pending: Future[None] | None = None
        if ranks.rank == 0:
            for left in folder.glob("step_*.tmp"):
                shutil.rmtree(left)

    def save(
        self,
        step: int,
        model: Mapping[str, Tensor],
        optimizer: Mapping[str, Any],
        trainer: Mapping[str, Any],
        score: float | None = None,
    ) -> None:
        """Copy the states and write them in the background; first wait for the save before. Low scores are best.

        A step that was saved or loaded already is not written again. HarkError, on every rank, when the save before
        failed.
        """
        self.wait()
        if self.current != step:
            where = HOST if self.ranks.rank == 0 else NOWHERE
            state = State(step, copied(model, where), copied(optimizer, where), copied(trainer, where))
            if self.ranks.rank == 0:
                self.pending = self.pool.queue(self.write, state, score)
        self.current = step

    def wait(self) -> None:
        """Wait until the last `save` is on the disk; HarkError on every rank when it failed."""
        error = None if self.pending is None else self.pending.exception()
        self.pending = None
        failed = int(all_sum(self.ranks.gangs.root, int(error is not None)))
        if error is not None:
            raise error
        if failed:
            raise HarkError(f"{self.folder}: rank 0 could not save a checkpoint")

    def load(self) -> State | None:
        """Read the newest good checkpoint; None when there is no checkpoint at all.

        Newer ones that are damaged are set aside, with a warning. HarkError when none is good.
        """
        self.wait()
        found: list[Any] = [steps(self.folder)]
        self.ranks.gangs.root.broadcast_objects(found)
        damaged: dict[int, str] = {}
        for step in found[0]:
            state, reason = self.try_read(step)
            if int(all_sum(self.ranks.gangs.root, int(state is None))) == 0:
                self.set_aside(damaged, step)
                self.current = step
                return state
            damaged[step] = reason or "another rank cannot read it"
        if damaged:
            raise HarkError(f"{self.folder}: every checkpoint is damaged ({'; '.join(damaged.values())})")
        return None

    def back_to(self, step: int) -> State:
        """Read the checkpoint of a step, and remove all later ones. HarkError when it is not there, or damaged."""
        self.wait()
        state, reason = self.try_read(step)
        if int(all_sum(self.ranks.gangs.root, int(state is None))) or state is None:
            raise HarkError(
                f"{self.folder}: cannot go back to step {step} ({reason or 'another rank cannot read it'})"
            )
        if self.ranks.rank == 0:
            for later in [other for other in steps(self.folder) if other > step]:
                self.manager.delete_checkpoint(later)
        self.ranks.barrier()
        self.current = step
        return state

    def close(self) -> None:
        """Wait for the last save, then stop the background thread."""
        try:
            self.wait()
        finally:
            self.pool.executor.shutdown()

    def try_read(self, step: int) -> tuple[State | None, str]:
        """Give the state of a step, or the reason why there is none."""
        trainer, model, optimizer = Held(), Held(), Held()
        try:
            self.manager.load_trainer_state(step, trainer)
            self.manager.load_model_state(step, model)
            self.manager.load_optimizer_state(step, optimizer)
        except DamagedError as error:
            return None, str(error)
        return State(step, model.value, optimizer.value, trainer.value), ""

    def set_aside(self, damaged: Mapping[int, str], good: int) -> None:
        """Rename damaged checkpoints, so that they count no longer, once a good one is known."""
        for step, reason in damaged.items():
            if self.ranks.rank == 0:
                aside = self.folder / f"step_{step}.damaged"
                shutil.rmtree(aside, ignore_errors=True)
                (self.folder / f"step_{step}").rename(aside)
                log.warning("%s; set aside as %s, going back to step %d", reason, aside.name, good)

    def write(self, state: State, score: float | None) -> None:
        """Write, commit, then tidy. Runs in the background thread of rank 0."""
        try:
            self.manager.save_checkpoint(
                state.step,
                Held(state.trainer),
                Held(state.model),
                Held(state.optimizer),
                Held({}),  # where the data goes on is among the trainer's
                ready_callback=lambda *_: self.write_score(state.step, score),
                blocking=True,
            )
            sync(self.folder)
        except (OSError, OperationalError) as error:
            shutil.rmtree(self.folder / f"step_{state.step}.tmp", ignore_errors=True)
            free = shutil.disk_usage(self.folder).free / 1e9
            raise HarkError(
                f"{self.folder}: the checkpoint of step {state.step} could not be written ({reason_of(error)}; "
                f"{free:.2f} GB are free); make room, then the same command goes on from the last one"
            ) from error
        self.tidy()

    def tidy(self) -> None:
        """Remove what need not be kept; what cannot be removed now is tried again after the next save."""
        for stale in self.manager.get_stale_step_numbers(self.keep_last, self.keep_best or None, None):
            if stale in self.kept:
                continue
            try:
                self.manager.delete_checkpoint(stale)
            except (OSError, OperationalError) as error:
                log.warning("%s: step %d cannot be removed yet (%s)", self.folder, stale, reason_of(error))

    def write_score(self, step: int, score: float | None) -> None:
        """Before the commit, so that no committed step lacks its score; fairseq2 takes the highest for the best."""
        if score is not None and isfinite(score):
            self.manager.save_score(step, -score)
            sync(self.folder / "scores" / f"step_{step}.txt")


class Background(ThreadPool):
    """One thread."""

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1, "checkpoint")

    def queue(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
        return self.executor.submit(callback, *args, **kwargs)


class Held:
    """A value that fairseq2 saves from and loads into."""

    def __init__(self, value: dict[str, Any] | None = None) -> None:
        self.value = value or {}

    def state_dict(self) -> dict[str, Any]:
        return self.value

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.value = state_dict


def copied(value: Any, where: torch.device) -> Any:
    """Copy a state, one tensor after another and whole; TypeError for what a checkpoint could not give back.

    Ranks that share tensors call this together.
    """
    if isinstance(value, Tensor):
        return full(value.detach()).to(where, copy=True)
    if isinstance(value, Mapping):
        return {key: copied(item, where) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(copied(item, where) for item in value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(f"a checkpoint holds tensors and plain values, not {type(value).__name__} ({value!r})")


def reason_of(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (isinstance(error, OSError) and error.strerror) or str(error)
