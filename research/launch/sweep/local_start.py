"""Starting a job on this machine: the snapshot's code in a clean environment, one process per rank."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from submitit.helpers import clean_env

from research.launch.sweep.order import Order
from research.launch.sweep.place import JOB, LOGS, STARTS
from research.launch.sweep.spool import Batch


def start(batch: Batch, job: str, starts: int) -> list[subprocess.Popen[bytes]]:
    """Start all ranks of a job, in a process group of their own that is called like rank 0."""
    order, size = batch.order_of(job), batch.cluster["per_node"]
    python = [
        sys.executable,
        "-u",
        "-P",
        "-m",
        "research.launch.sweep.job",
        batch.orders[batch.jobs.index(job)],
    ]
    setup = "\n".join([*batch.cluster["setup"], 'exec "$@"'])
    words = ["bash", "-c", setup, "bash", *python] if batch.cluster["setup"] else python
    port = free_port()
    ranks: list[subprocess.Popen[bytes]] = []
    for rank in range(size):
        out, err = logs_of(order, job, rank)
        out.parent.mkdir(parents=True, exist_ok=True)
        meeting = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
        meeting |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        own = {JOB: job, STARTS: starts, LOGS: f"{out}{os.pathsep}{err}", **(meeting if size > 1 else {})}
        group = ranks[0].pid if ranks else 0
        with out.open("a") as stdout, err.open("a") as stderr, ended_together(ranks):
            ranks.append(
                subprocess.Popen(  # noqa: S603
                    words,
                    cwd=order.cwd,
                    env=environment(order) | {name: str(value) for name, value in own.items()},
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                    process_group=group,
                )
            )
    return ranks


@contextmanager
def ended_together(ranks: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Where one more cannot be started, end those that were: they would wait for it."""
    try:
        yield
    except OSError:
        for rank in ranks:
            rank.kill()
            rank.wait()
        raise


def environment(order: Order) -> dict[str, str]:
    """The user's, without ranks and jobs that it may be among."""
    with clean_env():
        clean = dict(os.environ)
    path = os.pathsep.join(filter(None, (order.code, clean.get("PYTHONPATH"))))
    if named := clean.get("HARK_PLUGINS"):  # files are modules of the snapshot
        words = [Path(word).stem if word.endswith(".py") else word for word in named.split(",")]
        clean["HARK_PLUGINS"] = ",".join(words)
    return clean | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def logs_of(order: Order, job: str, rank: int) -> tuple[Path, Path]:
    name = f"{job}.rank{rank}" if rank else job
    return Path(order.folder) / "logs" / f"{name}.out", Path(order.folder) / "logs" / f"{name}.err"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
