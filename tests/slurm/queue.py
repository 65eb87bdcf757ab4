"""Jobs that a test sends to SLURM, each told in a few lines of Python."""

import time
from dataclasses import replace
from pathlib import Path

from research.config import Cluster, Scheduler
from research.launch.sweep.order import Order
from research.launch.sweep.slurm import Slurm
from tests.slurm.jobs import Task

ROOT = Path(__file__).parents[2]


class Queue(Slurm):
    def __init__(self, folder: Path):
        super().__init__(Task)
        self.folder = folder  # of the sweep, and where the jobs start

    def send(self, *lines: str, name="a sweep", after=(), **settings) -> list[str]:
        """Submit a job for each, with small needs unless settings of Cluster say otherwise; give their ids."""
        small = {"scheduler": Scheduler.slurm, "cpus": 1, "memory_gb": 0.5}
        here, code = str(self.folder), str(ROOT)
        jobs = [Order(here, "x", here, code, here, values={"do": line}) for line in lines]
        jobs = [replace(job, after=one) for job, one in zip(jobs, after or [""] * len(jobs), strict=True)]
        files = [self.folder / f"{name}-{i}.json" for i in range(len(jobs))]
        for file, job in zip(files, jobs, strict=True):
            job.save(file)
        return self.submit(files, jobs, Cluster(**{**small, **settings}), name)

    def until(self, job: str, state: str, reason: str | None = None):
        """Wait for a job's state, and give what is known of it then."""
        end = time.monotonic() + 300
        while True:
            live = self.states([job])[job]
            if live.state == state and reason in (None, live.reason):
                return live
            assert time.monotonic() < end, live
            time.sleep(0.1)


def until(done, seconds=300):
    """Wait until something is true, and give it."""
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found
