"""Checks of what a step is predicted to take, against what the job gets."""

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from research import runs
from research.data.plan import Plan
from research.engine.weights import steps
from research.errors import HarkError
from research.launch.checks.job import Job, Said, objective_of, ok, refuse, warn
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


def worst_of(job: Job) -> list[Worst]:
    """Predict the batches that hold the most audio, and the most audio times length, as attention counts it."""
    job.get(objective_of)
    job.get(device_of)
    plan, cfg = job.get(plan_of), job.cfg
    eager = replace(cfg, train=replace(cfg.train, compile=False))  # nothing else can be predicted
    rows, seconds = fullest(plan)
    places = {int(np.argmax(rows * seconds)), int(np.argmax(rows * seconds**2))}
    return [
        Worst(
            int(rows[k]),
            float(seconds[k]),
            predict(eager, int(rows[k]), float(seconds[k]), cfg.cluster.device),
        )
        for k in sorted(places)
    ]


def fullest(plan: Plan) -> tuple[np.ndarray, np.ndarray]:
    """Give the most rows, and the longest utterance (s), of any batch in each bucket that has some: (K,), (K,)."""
    rows, seconds = np.zeros(len(plan.bounds), np.int64), np.zeros(len(plan.bounds))
    np.maximum.at(rows, plan.bucket, np.diff(plan.starts))
    np.maximum.at(seconds, np.searchsorted(plan.bounds, plan.durations), plan.durations)
    return rows[rows > 0], seconds[rows > 0]


def memory(job: Job) -> Said:
    """Whether the worst batch fits."""
    cfg, place = job.cfg, job.get(device_of)
    try:
        worst = max(job.get(worst_of), key=lambda each: each.cost.needed)
    except HarkError as error:
        return warn(str(error))
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


def time(job: Job) -> Said | None:
    """Whether the steps that are left fit into the time limit, or at least those from checkpoint to checkpoint."""
    cfg, plan = job.cfg, job.get(plan_of)
    worst = max(job.get(worst_of), key=lambda each: each.rows * each.seconds)
    if worst.cost.seconds is None:
        return None
    members, _ = plan.shuffled(0)
    mean = float((plan.longest(members) * np.diff(plan.starts)).mean())  # s of a batch, with padding
    step = worst.cost.seconds * mean / (worst.rows * worst.seconds)
    done = max(steps(runs.folder(cfg) / "checkpoints"), default=0)
    hour = step * MARGIN / 3600
    hours, limit = (cfg.train.steps - done) * hour, cfg.cluster.hours
    said = f"{cfg.train.steps - done:,} steps of {step:.2f} s take {hours:.1f} hours, cluster.hours={limit:g}"
    if hours <= limit:
        return ok(said)
    if cfg.checkpoint.every * hour > limit:
        return refuse(
            f"{said}: not even the {cfg.checkpoint.every:,} steps to a checkpoint fit; lower checkpoint.every"
        )
    return warn(f"{said}: it has to be queued {math.ceil(hours / limit)} times, and goes on each time")
