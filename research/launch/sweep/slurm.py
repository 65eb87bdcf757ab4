"""Jobs of a SLURM cluster: submitit writes and submits them; squeue, then sacct, say where they are.

Nothing here waits for a job, or needs the accounting database.
"""

import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from pathlib import Path
from typing import Any

from research.config import Cluster, Scheduler
from research.errors import HarkError
from research.launch.sweep.backend import Live
from research.launch.sweep.job import Job
from research.launch.sweep.order import Order
from research.launch.sweep.slurm_batch import parameters, parts
from research.launch.sweep.slurm_client import ask, outside, refusal

WAITS = {"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
RUNS = {"RUNNING", "CONFIGURING", "COMPLETING", "SIGNALING", "STAGE_OUT", "SUSPENDED", "STOPPED", "RESIZING"}
FIELDS = ("JobArrayID", "State", "RestartCnt", "exit_code", "NodeList", "Reason")
# a signal that comes before Python can hear it would end the job: it shall miss that one instead
PYTHON = f"""bash -c 'trap "" USR2 TERM; exec "$@"' deaf {shlex.quote(sys.executable)}"""
GONE = "Invalid job id specified"


class Slurm:
    name = Scheduler.slurm.value

    def __init__(self, job: Callable[[str], Callable[[], None]] = Job) -> None:
        self.job = job  # what submitit calls, by the path of an order

    def submit(self, orders: Sequence[Path], jobs: Sequence[Order], cluster: Cluster, name: str) -> list[str]:
        """Queue one array, or as many as SLURM's limit of an array's size takes: all, or none of them."""
        limit = re.search(r"MaxArraySize\s*=\s*(\d+)", ask("scontrol", "show", "config"))
        numbers = list(parts(jobs, max(1, int(limit[1]) if limit else 1)))
        parallel = cluster.parallel and max(1, cluster.parallel // len(numbers))
        ids: list[str] = []
        try:
            for part in numbers:
                asked = parameters(cluster, [jobs[k] for k in part], name, parallel)
                logs = Path(jobs[part[0]].folder) / "logs"
                ids += self.array([orders[k] for k in part], asked, logs)
        except HarkError:
            self.cancel(ids)
            raise
        return ids

    def array(self, orders: Sequence[Path], asked: dict[str, Any], logs: Path) -> list[str]:
        from submitit import SlurmExecutor  # noqa: PLC0415  slow, and only here
        from submitit.core.utils import FailedJobError  # noqa: PLC0415

        with outside() as said:
            # a job is queued again for as long as it makes progress: the ledger counts, not submitit
            executor = SlurmExecutor(logs, max_num_timeout=1_000_000, python=PYTHON)
            executor.update_parameters(**asked)
            try:
                made = executor.submit_array([self.job(str(path)) for path in orders])
            except FailedJobError:
                for left in logs.glob("[0-9a-f]" * 32 + ".pkl"):  # those of a submission bear its id
                    left.unlink()
                raise refusal("the job", said.getvalue()) from None
        return [job.job_id for job in made]

    def recover(self, name: str, count: int) -> list[str] | None:
        """Find a submission by its name; half of one is none: its submitter may be at it at this moment."""
        found = self.called(name)
        ids = sorted(found, key=lambda job: [int(number) for number in job.split("_")])
        if len(ids) == count and all((found[job] / f"{job}_submitted.pkl").exists() for job in ids):
            return ids
        return None

    def take_back(self, name: str, count: int, known: Container[str]) -> None:
        """End what there is of a submission that was broken off half way, but for jobs that runs know of.

        Its submitter must be gone for sure.
        """
        if self.recover(name, count) is None:
            self.cancel([job for job in self.called(name) if job not in known])

    def called(self, name: str) -> dict[str, Path]:
        """Give the jobs of a submission, and the folder of what submitit wrote for each."""
        found = {}
        for line in ask("squeue", "--me", *format_of("JobArrayID", "Command", "Name")).splitlines():
            job, script, called = line.removesuffix("|").split("|", 2)
            if called == name:
                found[job] = Path(script).parent
        return found

    def states(self, jobs: Iterable[str]) -> dict[str, Live]:
        wanted = set(jobs)
        if not wanted:
            return {}
        mains = f"--jobs={','.join(sorted({job.partition('_')[0] for job in wanted}))}"
        found = {}
        for line in ask("squeue", *format_of(*FIELDS), mains, fine=GONE).splitlines():
            job, state, restarts, status, nodes, reason = line.split("|")[: len(FIELDS)]
            how = word(state, exit_of(status), reason)
            found[job] = Live(phase(state), how, nodes, int(restarts) + bool(nodes))
        known = {job: live for job, live in found.items() if job in wanted}
        return ended(wanted - known.keys()) | known

    def cancel(self, jobs: Sequence[str]) -> None:
        alive = [job for job, live in self.states(jobs).items() if live.state != "ended"]
        for start in range(0, len(alive), 500):  # of a command line's length
            ask("scancel", "--quiet", *alive[start : start + 500], fine=GONE)

    def logs(self, folder: Path, job: str) -> list[Path]:
        """Give the output of every rank, then their errors; those of rank 0 where there are none yet."""
        logs = folder / "logs"
        names = [re.fullmatch(rf"{job}_(\d+)_log.out", path.name) for path in logs.glob(f"{job}_*")]
        ranks = sorted(int(name[1]) for name in names if name) or [0]
        return [logs / f"{job}_{rank}_log.{kind}" for kind in ("out", "err") for rank in ranks]


def format_of(*fields: str) -> list[str]:
    """Words that make squeue print every job, known to have ended too, and array tasks one by one, nothing cut off."""
    return ["--noheader", "--array", "--states=all", "--Format=" + ",".join(f"{field}:|" for field in fields)]


def ended(jobs: set[str]) -> dict[str, Live]:
    """What the accounting knows, where there is one: jobs that squeue no longer shows have ended."""
    if not jobs:
        return {}
    mains = ",".join(sorted({job.partition("_")[0] for job in jobs}))
    try:
        lines = ask("sacct", "-X", "-n", "-P", f"--jobs={mains}", "--format=JobID,State,ExitCode,NodeList")
    except HarkError:
        return {}  # it adds how a job ended, which is not worth a refusal
    found = {}
    for line in lines.splitlines():
        job, state, codes, nodes = line.split("|")
        code, number = (int(part) for part in codes.split(":"))
        how = word(state, code or (number and 128 + number), state) or state
        found[job] = Live("ended", how, nodes)
    return {job: live for job, live in found.items() if job in jobs}


def phase(state: str) -> str:
    return "pending" if state in WAITS else "running" if state in RUNS else "ended"


def exit_of(status: str) -> int:
    """Exit code as a shell tells it, of the status that wait() gives."""
    code = os.waitstatus_to_exitcode(int(status))
    return code if code >= 0 else 128 - code


def word(state: str, code: int, reason: str) -> str:
    """Why a job waits, or how it ended."""
    if phase(state) == "pending":
        return reason
    if phase(state) == "running":
        return ""
    state = state.partition(" ")[0]  # "CANCELLED by 1000"
    if state != "FAILED" or not code:
        return state if state != "FAILED" else reason
    names = {128 + number: f" ({number.name})" for number in signal.Signals}
    return f"exit {code}{names.get(code, '')}"
