"""Sweeps of run folders that jobs wrote to, and schedulers that say what a test wants."""

import json
import time
from pathlib import Path

from research.errors import HarkError
from research.files import write
from research.launch.sweep.backend import Live
from research.launch.sweep.ledger import note
from research.launch.sweep.order import Order


class Scheduler:
    """Answers `lives`, or not at all; remembers what it was asked to do."""

    name = "slurm"

    def __init__(self, lives=None, *, answers=True):
        self.lives, self.answers = lives or {}, answers
        self.cancelled, self.submitted = [], []

    def states(self, jobs):
        if not self.answers:
            raise HarkError("slurm does not answer: no squeue")
        return {job: self.lives[job] for job in jobs if job in self.lives}

    def recover(self, name, count):
        return None

    def cancel(self, jobs):
        self.cancelled += jobs
        for job in jobs:
            self.lives[job] = Live("ended", "CANCELLED")

    def submit(self, orders, jobs, cluster, name):
        ids = [f"{100 + len(self.submitted) + k}" for k in range(len(jobs))]
        self.submitted += jobs
        self.lives |= dict.fromkeys(ids, Live("pending", "Priority"))
        return ids

    def logs(self, folder, job):
        ranks = sorted((folder / "logs").glob(f"{job}_*.out")) or [folder / "logs" / f"{job}_0.out"]
        return [*ranks, *(file.with_suffix(".err") for file in ranks)]


def sweep_of(root, *cells, name="codes"):
    """Write a sweep over `quantizer.codes`, one cell per name of a run."""
    folder = root / "sweeps" / name
    (folder / "orders").mkdir(parents=True)
    (folder / "logs").mkdir()
    found = {cell: {"differs": {"quantizer.codes": str(k)}, "overrides": []} for k, cell in enumerate(cells)}
    write(folder / "sweep.json", json.dumps({"name": name, "typed": [], "cells": found}))
    return folder


def submitted(run, job, *, kind="train", sweep="codes"):
    """Note what `hark sweep` notes of a job."""
    folder, batch = run.parent / "sweeps" / sweep, f"{sweep}-{job}-{kind}"
    file = folder / "orders" / f"{batch}-0.json"
    run.mkdir(parents=True, exist_ok=True)
    values = {"cluster": {"scheduler": "slurm"}}
    Order(str(run), sweep, str(folder), "code", str(run.parent), kind, values).save(file)
    facts = {"scheduler": "slurm", "sweep": sweep, "code": "code", "batch": batch, "order": str(file)}
    note(run, "queued", job="", kind=kind, **facts)
    note(run, "submitted", job=job, kind=kind, batch=batch)


def began(run, job, kind="train", ago=0.0):
    note(run, "began", job=job, kind=kind, host="n1", pid=1, step=0, logs=[], time=time.time() - ago)


def ended(run, job, outcome, error="", kind="train", *, again=False):
    note(run, "ended", job=job, kind=kind, outcome=outcome, error=error, step=0, again=again)


def configured(run, steps=100):
    run.mkdir(parents=True, exist_ok=True)
    write(run / "config.yaml", f"train:\n  steps: {steps}\n")


def logged(run, records):
    """Write (step, split, loss, s before now) into metrics.jsonl."""
    now = time.time()
    lines = [
        {"schema": 1, "step": step, "split": split, "time": now - ago, "loss": loss, "audio_s_per_s": 50.0}
        for step, split, loss, ago in records
    ]
    (Path(run) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
