"""What sbatch is told of a submission."""

import math
import os
import shlex
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from research.config import Cluster
from research.launch.devices import find_device
from research.launch.sweep.order import Order
from research.launch.sweep.snapshot import environment

EARLY = 60  # s that SLURM may send the signal before its time
LEAST = 10  # s of warning for a time limit that leaves no more


def parts(jobs: Sequence[Order], limit: int) -> Iterator[list[int]]:
    """Give the numbers of the jobs of each array, in order: at most `limit`, alike in all but what they are told."""
    for _, alike in groupby(range(len(jobs)), lambda k: (jobs[k].folder, jobs[k].code, jobs[k].cwd)):
        whole = list(alike)
        for start in range(0, len(whole), limit):
            part = whole[start : start + limit]
            if len({jobs[k].after for k in part}) == 1 or array_before([jobs[k] for k in part]):
                yield part
            else:
                yield from (list(same) for _, same in groupby(part, lambda k: jobs[k].after))


def array_before(part: Sequence[Order]) -> str:
    """Id of the array whose tasks these jobs wait for, one for one, or nothing."""
    main = part[0].after.partition("_")[0]
    return main if [job.after for job in part] == [f"{main}_{i}" for i in range(len(part))] else ""


def dependency(part: Sequence[Order]) -> dict[str, str]:
    """Options that have a job wait for another, and that end it when the other never succeeds."""
    if not part[0].after:
        return {}
    main = array_before(part) if len(part) > 1 else ""
    waits = f"aftercorr:{main}" if main else f"afterok:{part[0].after}"
    return {"dependency": waits, "kill_on_invalid_dep": "yes"}


def signal_delay(cluster: Cluster) -> int:
    """Seconds before the time limit at which the job is warned: it shall have run for half of its time by then."""
    return max(LEAST, min(cluster.warning, minutes(cluster) * 30 - EARLY))


def minutes(cluster: Cluster) -> int:
    return max(1, math.ceil(cluster.hours * 60))


def setup(cluster: Cluster, order: Order) -> list[str]:
    """Give the shell lines of a job before Python starts: the user's, then those that choose the code."""
    code = environment(Path(order.code))
    return [*cluster.setup, *(f"export {name}={shlex.quote(value)}" for name, value in code.items())]


def parameters(cluster: Cluster, part: Sequence[Order], name: str, parallel: int) -> dict[str, Any]:
    """Give submitit's parameters of an array. HarkError when the device is unknown."""
    order = part[0]
    given: dict[str, Any] = {
        "job_name": name,
        "time": minutes(cluster),
        "nodes": cluster.nodes,
        "ntasks_per_node": cluster.per_node,
        "cpus_per_task": cluster.cpus,
        "mem": f"{math.ceil(cluster.memory_gb * cluster.per_node * 1024)}M",
        "gpus_per_node": cluster.per_node if find_device(cluster.device).cuda else None,
        "partition": cluster.partition or os.environ.get("SBATCH_PARTITION"),
        "account": cluster.account or os.environ.get("SBATCH_ACCOUNT"),
        "qos": cluster.qos or os.environ.get("SBATCH_QOS"),
        "constraint": cluster.constraint or os.environ.get("SBATCH_CONSTRAINT"),
        "wckey": None,
        "signal_delay_s": signal_delay(cluster),
        "array_parallelism": parallel or len(part),
    }
    extra = {key.replace("-", "_"): value for key, value in (cluster.extra or {}).items()}
    given |= {key: None for key, value in extra.items() if value is None and key in given}
    wanted = {key: value for key, value in extra.items() if value not in (None, False)}
    additional = {"chdir": order.cwd, "requeue": True, **dependency(part), **wanted}
    # srun takes neither from sbatch, of SLURM 22.05 on; and the others of a job whose rank died would wait for ever
    steps = [f"--cpus-per-task={cluster.cpus}", "--kill-on-bad-exit=1"]
    return given | {"setup": setup(cluster, order), "srun_args": steps, "additional_parameters": additional}
