"""Probes on the way as jobs of the run's cluster, one for each step."""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from research import registry, runs
from research.compose import Composed
from research.config import Checkpoint, Config
from research.engine.checkpoint import Checkpoints
from research.engine.gangs import alone
from research.engine.weights import steps
from research.errors import HarkError
from research.files import append
from research.launch.sweep.backend import Backend
from research.launch.sweep.folder import locked
from research.launch.sweep.order import Order
from research.launch.sweep.snapshot import snapshot
from research.launch.sweep.standing import LIVE, Standing, Wanted, standings, to_submit
from research.launch.sweep.submit import backends, probing, submit
from research.launch.watch import notes
from research.launch.watch.put import put, words_of
from research.training.follower import catch_up
from research.training.probing import unbooked
from research.training.rows import PROBE
from research.training.tracking import line

PATIENCE, PAUSE = 5.0, 0.1  # s that a run's folder may be held by somebody who does the same


@dataclass(frozen=True)
class Jobs:
    """Queues what is due, unless it waits or runs; `order`: of the job that trains, if one does."""

    run: Path
    composed: Composed[Config]
    order: Order | None = None

    def ask(self, steps: Sequence[int]) -> None:
        """Submit every step that no job is at, unless it is given up.

        HarkError when the scheduler does not answer, or refuses, or when another command submits for too long.
        """
        schedulers = backends(self.run.parent)
        with locked(self.run.parent):
            due = self.due(steps, schedulers)
            if due:
                begun = self.order or self.begun()
                orders = [probing(begun, words_of(self.composed.config.watch, step)) for step in due]
                kinds = [notes.kind_of(step) for step in due]
                submit([replace(one, kind=kind) for one, kind in zip(orders, kinds, strict=True)], schedulers)

    def due(self, steps: Sequence[int], schedulers: Mapping[str, Backend]) -> list[int]:
        tries = self.composed.config.cluster.tries
        states = standings([Wanted(self.run, notes.kind_of(step)) for step in steps], schedulers)
        asked = notes.by_step(self.run)
        return [
            step
            for step, state in zip(steps, states, strict=True)
            if to_submit(state, tries) and not notes.given_up(asked.get(step, []), tries)
        ]

    def begun(self) -> Order:
        """What the job that trains would have been told, had there been one."""
        code = snapshot(self.run.parent / "sweeps" / "code")
        values = {"plugins": self.composed.choices, **runs.values_of(self.composed.config)}
        own, here = str(self.run / "watch"), str(Path.cwd())
        return Order(
            str(self.run), self.run.name, own, str(code), here, "train", values, self.composed.overrides
        )


def answer(order: Order) -> int:
    """Do what such a job is told; exit code."""
    registry.load_plugins()
    run, step = Path(order.run), notes.step_of(order.kind)
    values = notes.found(run).get(step)
    if values is None:
        values = put(run, order.probe)
        notes.note(run, "probed", step, values=values)
    told = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
    print(f"step {step}  {told}")
    config = runs.from_values(Config, order.values)
    settle(run, config.checkpoint, waiting(run, config))
    return 0


def waiting(run: Path, config: Config) -> set[int]:
    """Steps whose checkpoints jobs read, or have still to: those that nobody could submit yet, too."""
    asked = notes.by_step(run)
    left = {
        step
        for step in steps(run / "checkpoints")
        if (step in asked or config.watch.due(step)) and notes.values_of(asked.get(step, [])) is None
    }
    spent = {step for step in left if notes.given_up(asked.get(step, []), config.cluster.tries)}
    return left - spent | at_work(run, spent)


def at_work(run: Path, asked: Collection[int]) -> set[int]:
    """Steps that a job is at, or may be: how often it began does not tell whether it was killed the last time."""
    wanted = [Wanted(run, notes.kind_of(step)) for step in asked]
    states = standings(wanted, backends(run.parent), lenient=True) if wanted else []
    return {
        notes.step_of(state.wanted.kind) for state in states if state.standing in (*LIVE, Standing.unknown)
    }


def settle(run: Path, keep: Checkpoint, needed: set[int]) -> None:
    """Log what jobs found after the last step, and remove checkpoints that were kept for them.

    Until then the training does so, and whoever holds the run's folder does it now.
    """
    if not runs.finished(run):
        return
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with runs.only_one(run):
                new = unbooked(run, notes.found(run), float("inf"))
                for step, values in new:
                    append(run / "metrics.jsonl", line(step, PROBE, values))
                tidy(run, keep, needed)
            break
        except HarkError:
            if time.monotonic() > until:
                return
            time.sleep(PAUSE)
    if new:
        catch_up(run, print)


def tidy(run: Path, keep: Checkpoint, needed: set[int]) -> None:
    left = Checkpoints(run / "checkpoints", alone(), keep_last=keep.keep_last, keep_best=keep.keep_best)
    left.kept = frozenset(needed)
    left.tidy()
    left.close()
