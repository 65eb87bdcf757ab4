"""Jobs on this machine, without a scheduler: each submission has a process that starts them, and outlives the shell."""

import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from signal import SIGTERM

from research.config import Cluster
from research.errors import HarkError
from research.launch.sweep.backend import Live
from research.launch.sweep.order import Order
from research.launch.sweep.spool import Batch, Process, Spool, code_of, ids, key
from research.runs import ROOT


class Local:
    """`root` is the folder that run folders are made in: all submissions under it count together.

    Machines that share the folder have jobs of their own. Of another's, only what it wrote down is known here.
    """

    name = "local"

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def submit(self, orders: Sequence[Path], jobs: Sequence[Order], cluster: Cluster, name: str) -> list[str]:
        """Start the process that works the orders off, `cluster.parallel` at a time, behind those from before."""
        if cluster.nodes > 1:
            raise HarkError(
                f"cluster.nodes={cluster.nodes}: there is this machine only; type cluster.nodes=1, or cluster=slurm"
            )
        spool = Spool.here(self.root)
        spool.folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, "-m", "research.launch.sweep.local_queue", str(spool.folder), key(name)]
        with (spool.folder / f"{key(name)}.log").open("a") as log:
            started = subprocess.Popen(  # noqa: S603
                words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        plain = asdict(cluster) | {"scheduler": self.name}
        files, after = [str(path.absolute()) for path in orders], [order.after for order in jobs]
        spool.add(Batch(name, time.time(), files, after, plain, Process.of(started.pid)))
        return ids(name, len(orders))

    def recover(self, name: str, count: int) -> list[str] | None:
        there = any(spool.batch(key(name)) for spool in Spool.everywhere(self.root))
        return ids(name, count) if there else None

    def states(self, jobs: Iterable[str]) -> dict[str, Live]:
        return {job: live for job in jobs if (live := self.state(job)) is not None}

    def state(self, job: str) -> Live | None:
        for spool, batch in self.find(job):
            now = spool.now(batch)[job]
            reason = now.reason
            if not spool.mine and now.state != "ended":
                reason = (
                    f"as that machine wrote {ago(spool.seen(batch, job))}; from here nothing else is known"
                )
            elif now.state == "pending" and not reason:
                reason = f"after {batch.after_of(job)}" if batch.after_of(job) else "others are before it"
            return Live(now.state, reason, spool.folder.name, now.starts)
        return None

    def cancel(self, jobs: Sequence[str]) -> None:
        """Leave word for the process that cares for them; where it is gone, tell them directly.

        What would start last is told first, so that none starts in the place of another of them.
        """
        found = [
            (spool, batch, job, spool.now(batch)[job]) for job in jobs for spool, batch in self.find(job)
        ]
        found.sort(key=lambda one: (one[3].state != "running", one[1].time, one[1].jobs.index(one[2])))
        for spool, batch, job, now in reversed(found):
            if now.state != "ended":
                spool.cancel(job).touch()
            if spool.mine and not batch.process.alive:
                for rank in now.ranks:
                    rank.send(SIGTERM)

    def logs(self, folder: Path, job: str) -> list[Path]:
        own = folder / "logs"
        return [own / f"{job}.out", own / f"{job}.err", *sorted(own.glob(f"{job}.rank*"))]

    def find(self, job: str) -> list[tuple[Spool, Batch]]:
        """Give the submission of a job, and where it was made; nothing for what is none of ours."""
        found = ((spool, spool.batch(code_of(job))) for spool in Spool.everywhere(self.root))
        return [(spool, batch) for spool, batch in found if batch is not None and job in batch.jobs]


def ago(seconds: float) -> str:
    minutes = int(seconds / 60)
    return f"{minutes} min ago" if minutes < 120 else f"{minutes // 60} h ago"
