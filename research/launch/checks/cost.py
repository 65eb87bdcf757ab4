"""Checks of what a step is predicted to take, against what the job gets."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from research.data.plan import Plan
from research.engine.weights import steps
from research.errors import HarkError
from research.launch.checks.job import Job, Said, objective_of, ok, refuse, sized, warn
from research.launch.checks.plan import plan_of
from research.launch.checks.resources import device_of
from research.launch.predict import Prediction, predict

GB = 1e9
PROCESS = 0.8 * GB  # of the host: Python, torch and fairseq2 before the first tensor
TIGHT = 0.9  # share of the memory: predictions are good to a tenth
MARGIN = 1.3  # on step times: reading, validating, saving, and waiting for other ranks


class Worst(NamedTuple):
    """A batch that nothing in the plan exceeds, and what it takes."""

    rows: int
    seconds: float  # each
    cost: Prediction

    def __str__(self) -> str:
        return f"{self.rows} x {self.seconds:.1f} s"


@dataclass(frozen=True)
class Step:
    """A batch of `rows` utterances of `seconds` each."""

    rows: int
    seconds: float

    def __call__(self, job: Job) -> Prediction:
        """Predict it, compiled or not: nothing else can be."""
        return predict(sized(job.cfg), self.rows, self.seconds, job.cfg.cluster.device)


def worst_of(job: Job) -> list[Worst] | HarkError:
    """Predict the batches that hold the most audio, and the most audio times length, as attention counts it.

    An error is given, not raised, when it is the prediction's.
    """
    job.get(objective_of)
    job.get(device_of)
    rows, seconds = fullest(job.get(plan_of))
    places = {int(np.argmax(rows * seconds)), int(np.argmax(rows * seconds**2))}
    worst = [Step(int(rows[k]), float(seconds[k])) for k in sorted(places)]
    try:
        return [Worst(each.rows, each.seconds, job.get(each)) for each in worst]
    except HarkError as error:
        return error


def fullest(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Give the most rows, and the longest utterance (s), of any batch in each bucket that has some: (K,), (K,)."""
    rows, seconds = np.zeros(len(plan.bounds), np.int64), np.zeros(len(plan.bounds))
    np.maximum.at(rows, plan.bucket, np.diff(plan.starts))
    np.maximum.at(seconds, np.searchsorted(plan.bounds, plan.durations), plan.durations)
    return rows[rows > 0], seconds[rows > 0]


def memory(job: Job) -> Said:
    """Whether the worst batch fits."""
    cfg, place = job.cfg, job.get(device_of)
    found = job.get(worst_of)
    if isinstance(found, HarkError):
        return warn(str(found))
    worst = max(found, key=lambda each: each.cost.needed)
    name, there = (
        (cfg.cluster.device, place.memory)
        if place.cuda
        else ("cluster.memory_gb", cfg.cluster.memory_gb * GB)
    )
    needed = worst.cost.needed + (0 if place.cuda else PROCESS)
    said = f"a batch of {worst} needs {needed / GB:.1f} GB, {name} has {there / GB:.1f}"
    if needed <= TIGHT * there:
        return ok(said)
    verdict = refuse if needed > there else warn
    return verdict(f"{said}: lower data.batch_seconds, raise train.batches, or ask `hark memory` for sizes")


class Left(NamedTuple):
    """What is left of a run."""

    hours: float
    limit: float  # of a job, hours
    least: float  # hours from checkpoint to checkpoint
    text: str

    @property
    def jobs(self) -> int:
        return math.ceil(self.hours / self.limit)


def left_of(job: Job) -> Left | None:
    """Say how long the steps that are left take; None where the device's speed is unknown."""
    cfg, plan, found = job.cfg, job.get(plan_of), job.get(worst_of)
    if isinstance(found, HarkError):
        return None
    worst = max(found, key=lambda each: each.rows * each.seconds)
    if worst.cost.seconds is None:
        return None
    members, _ = plan.shuffled(0)
    mean = float((plan.longest(members) * np.diff(plan.starts)).mean())  # s of a batch, with padding
    step = worst.cost.seconds * mean / (worst.rows * worst.seconds)
    steps_left = cfg.train.steps - max(steps(job.folder / "checkpoints"), default=0)
    hour = step * MARGIN / 3600
    hours, limit = steps_left * hour, cfg.cluster.hours
    said = f"{steps_left:,} steps of {step:.2f} s take {hours:.1f} hours, cluster.hours={limit:g}"
    return Left(hours, limit, cfg.checkpoint.every * hour, said)


def time(job: Job) -> Said | None:
    """Whether the steps that are left fit into the time limit, or at least those from checkpoint to checkpoint."""
    left = job.get(left_of)
    if left is None or left.hours <= left.limit:
        return left and ok(left.text)
    if left.least > left.limit:
        every = job.cfg.checkpoint.every
        return refuse(
            f"{left.text}: not even the {every:,} steps to a checkpoint fit; lower checkpoint.every"
        )
    return warn(f"{left.text}: it has to be queued {left.jobs} times, and goes on each time")
