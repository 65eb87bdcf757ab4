"""Probes on the way as jobs of the run's cluster, one for each step."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from research import registry, runs
from research.compose import Composed
from research.config import Checkpoint, Config
from research.engine.checkpoint import Checkpoints
from research.engine.gangs import alone
from research.errors import HarkError
from research.files import append
from research.launch.sweep.order import Order
from research.launch.sweep.snapshot import snapshot
from research.launch.sweep.standing import Wanted, standings, to_submit
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
        """Submit every step that no job is at. HarkError when the scheduler does not answer, or refuses."""
        config = self.composed.config
        schedulers = backends(self.run.parent)
        states = standings([Wanted(self.run, notes.kind_of(step)) for step in steps], schedulers)
        due = [
            step for step, state in zip(steps, states, strict=True) if to_submit(state, config.cluster.tries)
        ]
        if due:
            begun = self.order or self.begun()
            orders = [probing(begun, words_of(config.watch, step)) for step in due]
            kinds = [notes.kind_of(step) for step in due]
            submit([replace(one, kind=kind) for one, kind in zip(orders, kinds, strict=True)], schedulers)

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
    """Steps that jobs have still to probe."""
    asked = notes.by_step(run)
    return {
        step
        for step, events in asked.items()
        if notes.values_of(events) is None and not notes.given_up(events, config.cluster.tries)
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
