"""The process of one submission: starts its jobs, in turn with other submissions, and starts again what asks for it.

    python -m research.launch.sweep.local_queue FOLDER BATCH

It ends with its last job. Told to end (SIGTERM), it first has its jobs save and stop.
"""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from research.launch.sweep.local_start import start
from research.launch.sweep.place import AGAIN
from research.launch.sweep.spool import Batch, Now, Process, Spool, code_of, key
from research.training.signals import StopFlag

TICK = 0.2  # s
GRACE = 20.0  # s that ranks, and data workers, have after one of them failed
MERCY = 60.0  # s that a cancelled job has to save


@dataclass
class Work:
    """A job that runs."""

    ranks: list[subprocess.Popen[bytes]]
    began: float = field(default_factory=time.monotonic)
    end: float = float("inf")  # when it is killed; moves forward only
    told: set[int] = field(default_factory=set)  # signals that it got

    def tell(self, number: int) -> None:
        """Send a signal once, to the ranks alone: what they have started is theirs."""
        if number not in self.told:
            self.told.add(number)
            for rank in self.ranks:
                rank.send_signal(number)  # not to one that has ended

    def by(self, seconds: float) -> None:
        """Let it live no longer than this from now."""
        self.end = min(self.end, time.monotonic() + seconds)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.ranks[0].pid, signal.SIGKILL)


class Queue:
    def __init__(self, spool: Spool, batch: Batch) -> None:
        self.spool, self.batch = spool, batch
        self.jobs = {job: Now() for job in batch.jobs}
        self.running: dict[str, Work] = {}
        self.past: set[str] = set()  # other submissions that are over
        self.known: dict[str, dict[str, Now]] = {}  # where submissions stand, read once a tick
        self.full = False  # no job may start in this tick

    def work(self) -> None:
        self.spool.put(self.batch, self.jobs)
        with StopFlag() as flag:
            while any(now.state != "ended" for now in self.jobs.values()):
                stop = flag.signal is not None
                self.known, self.full = {}, False
                for job in list(self.running):
                    self.watch(job, stop=stop)
                for job in [job for job, now in self.jobs.items() if now.state == "pending"]:
                    self.advance(job, stop=stop)
                time.sleep(TICK)

    def advance(self, job: str, *, stop: bool) -> None:
        """Start a job that waits, if it is its turn, or strike it off."""
        after = self.batch.after_of(job)
        before = self.now_of(after)
        if stop or self.spool.cancel(job).exists():
            self.end(job, "the process that was to start it was stopped" if stop else "cancelled")
        elif after and (before is None or (before.state == "ended" and not before.succeeded)):
            self.end(job, f"{after} had to succeed first, and did not")
        elif not self.full and self.ready(self.batch, job):
            with self.spool.lock():
                self.full = not self.turn()
                if not self.full:
                    self.start(job)

    def watch(self, job: str, *, stop: bool) -> None:
        """Tell a job that runs what it has to know; see whether it has ended."""
        cancelled = self.spool.cancel(job).exists()
        work, cluster = self.running[job], self.batch.cluster
        codes = [rank.poll() for rank in work.ranks]
        age, limit = time.monotonic() - work.began, cluster["hours"] * 3600
        if cancelled or stop:
            work.tell(signal.SIGTERM)
            work.by(MERCY)
        elif age > limit - cluster["warning"]:
            work.tell(signal.SIGUSR2)
        if any(codes):
            work.by(GRACE)
        if age > limit or time.monotonic() > work.end:
            work.kill()
        if None not in codes:
            work.kill()  # data workers that are left
            del self.running[job]
            if AGAIN in codes and not cancelled and not stop:
                self.put(job, "pending", "to be started again")
            else:
                late = "time limit" if age > limit else ""
                self.end(job, "cancelled" if cancelled else late or reason(codes), succeeded=not any(codes))

    def start(self, job: str) -> None:
        now = self.jobs[job]
        try:
            work = Work(start(self.batch, job, now.starts))
        except OSError as error:
            self.end(job, f"could not be started: {error}")
            return
        self.running[job] = work
        now.starts, now.ranks = now.starts + 1, [Process.of(rank.pid) for rank in work.ranks]
        self.put(job, "running")

    def turn(self) -> bool:
        """Whether one more job may run, and none of a submission from before waits for that."""
        busy = len(self.running)
        for other in self.spool.batches(without=self.past):
            jobs = self.spool.now(other)
            if all(now.state == "ended" for now in jobs.values()):
                self.past.add(key(other.name))
            elif other.name != self.batch.name:
                busy += sum(now.state == "running" for now in jobs.values())
                waits = (job for job, now in jobs.items() if now.state == "pending")
                if other.time < self.batch.time and any(self.ready(other, job) for job in waits):
                    return False
        return busy < max(1, self.batch.cluster["parallel"])

    def ready(self, batch: Batch, job: str) -> bool:
        """Whether what it has to wait for has succeeded."""
        before = self.now_of(batch.after_of(job))
        return before is None or before.succeeded

    def now_of(self, job: str) -> Now | None:
        """Where a job stood when its submission was first asked about in this tick."""
        code = code_of(job)
        if code and code not in self.known:
            batch = self.spool.batch(code)
            self.known[code] = self.spool.now(batch) if batch else {}
        return self.known.get(code, {}).get(job)

    def end(self, job: str, reason: str, *, succeeded: bool = False) -> None:
        self.jobs[job].succeeded = succeeded
        self.put(job, "ended", reason)

    def put(self, job: str, state: str, reason: str = "") -> None:
        self.jobs[job].state, self.jobs[job].reason = state, reason
        self.spool.put(self.batch, self.jobs)


def reason(codes: list[int | None]) -> str:
    """Tell exit codes of ranks as Live does: the first that was not 0, and not of the killing after it."""
    bad = [code for code in codes if code] or [0]
    code = next((code for code in bad if code != -signal.SIGKILL), bad[0])
    return f"exit {code}" if code >= 0 else f"exit {128 - code} ({signal.Signals(-code).name})"


def main() -> None:
    spool = Spool(Path(sys.argv[1]))
    for _ in range(600):  # it is written once this process is known
        if batch := spool.batch(sys.argv[2]):
            Queue(spool, batch).work()
            return
        time.sleep(0.1)


if __name__ == "__main__":
    main()
