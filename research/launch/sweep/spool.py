"""Jobs that wait or run on this machine, as files that every shell can read.

<run.folder>/sweeps/local/<host>/
  lock               held while a job is started: all submissions count together
  <batch>.json       a submission, written once: what is to be done, and the process that does it
  <batch>.now.json   where its jobs stand, written by that process alone
  <job>.cancel       the user does not want it
  <batch>.log        what that process said
"""

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil

from research.files import write
from research.launch.sweep.order import Order, read_order

DRIFT = 2.0  # s by which the clock may have been set since a process was started


@dataclass(frozen=True)
class Process:
    """One of this machine; a later one of the same number is another."""

    pid: int
    created: float  # s since 1970

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(pid, psutil.Process(pid).create_time())

    @property
    def alive(self) -> bool:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < DRIFT
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def send(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)


@dataclass
class Now:
    """Where a job stands."""

    state: str = "pending"  # running, ended
    reason: str = ""
    starts: int = 0
    ranks: list[Process] = field(default_factory=list)
    succeeded: bool = False


@dataclass(frozen=True)
class Batch:
    """A submission."""

    name: str
    time: float  # s since 1970
    orders: list[str]  # files
    after: list[str]  # ids of jobs, or ""
    cluster: dict[str, Any]
    process: Process

    @property
    def jobs(self) -> list[str]:
        return ids(self.name, len(self.orders))

    def order_of(self, job: str) -> Order:
        return read_order(Path(self.orders[self.jobs.index(job)]))

    def after_of(self, job: str) -> str:
        return self.after[self.jobs.index(job)]


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def ids(name: str, count: int) -> list[str]:
    """The jobs of a submission."""
    return [f"local-{key(name)}-{i}" for i in range(count)]


def code_of(job: str) -> str:
    """The key of the submission of a job."""
    return job.removeprefix("local-").rpartition("-")[0]


@dataclass(frozen=True)
class Spool:
    """The files of one machine."""

    folder: Path

    @classmethod
    def here(cls, root: Path) -> Self:
        """Of this machine. `root` is the folder that run folders are made in."""
        return cls(root / "sweeps" / "local" / socket.gethostname())

    @classmethod
    def everywhere(cls, root: Path) -> list[Self]:
        return [cls(path) for path in sorted((root / "sweeps" / "local").glob("*/"))]

    @property
    def mine(self) -> bool:
        return self.folder.name == socket.gethostname()

    @contextmanager
    def lock(self) -> Iterator[None]:
        with open(self.folder / "lock", "w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            yield

    def add(self, batch: Batch) -> None:
        write(self.folder / f"{key(batch.name)}.json", json.dumps(asdict(batch), indent=1))

    def batch(self, code: str) -> Batch | None:
        """Give the submission with this key."""
        file = self.folder / f"{code}.json"
        if not code or not file.exists():
            return None
        values = json.loads(file.read_text())
        return Batch(**values | {"process": Process(**values["process"])})

    def batches(self, without: Container[str] = ()) -> list[Batch]:
        """Give all of them but those with these keys."""
        codes = [path.stem for path in self.folder.glob("*.json") if "." not in path.stem]
        found = [self.batch(code) for code in codes if code not in without]
        return [batch for batch in found if batch is not None]

    def put(self, batch: Batch, jobs: dict[str, Now]) -> None:
        values = {job: asdict(now) for job, now in jobs.items()}
        write(self.folder / f"{key(batch.name)}.now.json", json.dumps(values, indent=1))

    def now(self, batch: Batch) -> dict[str, Now]:
        """Where the jobs of a submission stand; what no process cares for any more has ended."""
        alive = not self.mine or batch.process.alive  # first: what one that is gone wrote is its last word
        file = self.folder / f"{key(batch.name)}.now.json"
        known = json.loads(file.read_text()) if file.exists() else {}
        found = {}
        for job in batch.jobs:
            values = known.get(job, {})
            now = Now(**values | {"ranks": [Process(**rank) for rank in values.get("ranks", [])]})
            if not alive and now.state != "ended" and not any(rank.alive for rank in now.ranks):
                now.state, now.reason = "ended", "the process that was to start it again was killed"
            found[job] = now
        return found

    def seen(self, batch: Batch, job: str) -> float:
        """Seconds since a job, or the process that cares for it, last wrote anything."""
        run = Path(batch.order_of(job).run)
        files = [self.folder / f"{key(batch.name)}.json", self.folder / f"{key(batch.name)}.now.json"]
        files += [run / "jobs.jsonl", run / "metrics.jsonl", run / "checkpoints"]
        return time.time() - max(file.stat().st_mtime for file in files if file.exists())

    def cancel(self, job: str) -> Path:
        """The file that says so."""
        return self.folder / f"{job}.cancel"
