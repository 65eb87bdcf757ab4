"""Where a job runs: how it is called there, which of its ranks this is, how it is queued again."""

import os
import subprocess
import time
from dataclasses import dataclass
from typing import ClassVar

from research.errors import HarkError

JOB, STARTS, LOGS = "HARK_JOB", "HARK_STARTS", "HARK_LOGS"  # variables that the queue of this machine sets
AGAIN = 75  # exit code of a job that wants to be started again: EX_TEMPFAIL
ATTEMPTS, PAUSE = 6, 5.0  # at reaching SLURM; s between them


@dataclass(frozen=True)
class Place:
    """A process that the queue of this machine started, or a user."""

    holds: ClassVar[bool] = False  # after SIGTERM it waits for the end that the scheduler makes

    job: str = ""  # id
    rank: int = 0
    size: int = 1
    starts: int = 0  # times that the job was started before
    logs: tuple[str, ...] = ()

    def again(self) -> int:
        """Have the job started again; give the exit code with which to leave. HarkError when that fails."""
        return AGAIN


@dataclass(frozen=True)
class OnSlurm(Place):
    holds: ClassVar[bool] = True

    def again(self) -> int:
        for attempt in range(ATTEMPTS):
            time.sleep(PAUSE if attempt else 0)
            words = ["scontrol", "requeue", self.job]
            done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode == 0:
                return 0
        raise HarkError(f"scontrol requeue {self.job}: {done.stderr.strip() or f'exit {done.returncode}'}")


def here() -> Place:
    """Find out where this is; on SLURM, tell torch which rank it is."""
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        return slurm_task()
    names = os.environ.get(LOGS, "")
    return Place(
        os.environ.get(JOB, ""),
        int(os.environ.get("RANK", "0")),
        int(os.environ.get("WORLD_SIZE", "1")),
        int(os.environ.get(STARTS, "0")),
        tuple(names.split(os.pathsep)) if names else (),
    )


def slurm_task() -> OnSlurm:
    from submitit import JobEnvironment  # noqa: PLC0415  only here
    from submitit.helpers import TorchDistributedEnvironment  # noqa: PLC0415

    task = JobEnvironment()
    if task.num_tasks > 1:
        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
    restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    logs = (str(task.paths.stdout), str(task.paths.stderr))
    return OnSlurm(task.job_id, task.global_rank, task.num_tasks, restarts, logs)
