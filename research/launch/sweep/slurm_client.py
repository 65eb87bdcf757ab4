"""SLURM's own commands, and what they say when they refuse."""

import io
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr

from research.errors import HarkError

PREFIXES = ("SLURM_", "SLURMD_", "SRUN_", "SBATCH_", "SQUEUE_", "SACCT_", "SCANCEL_", "SUBMITIT_")
KEPT = {"SLURM_CONF", "SLURM_JWT"}  # where the cluster is, and who asks
TORCH = {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"}

AWAY = ("Unable to contact", "Socket timed out", "Zero Bytes", "Connection refused", "Transport")
KEYS = {  # words of a refusal, in small letters -> what to change
    "account": "cluster.account (or cluster.partition)",
    "partition": "cluster.partition",
    "qos": "cluster.qos",
    "feature": "cluster.constraint",
    "generic resource": "cluster.per_node or cluster.device",
    "memory": "cluster.memory_gb",
    "node": "cluster.nodes, cluster.per_node, cluster.cpus or cluster.memory_gb",
    "cpu": "cluster.cpus",
    "time": "cluster.hours",
    "option": "cluster.extra",
}


def ask(*words: str, fine: str = "\0") -> str:
    """Give what a command printed; nothing where it fails with the words `fine`.

    SLURM's commands go on asking for its MessageTimeout (10 s) while the controller is away, so nothing is tried twice
    here. HarkError when it does not answer, when it refuses, and when there is no such command.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment())  # noqa: S603
    except FileNotFoundError:
        raise HarkError(
            f"there is no SLURM on this machine (no command {words[0]}): type cluster=local, or log in where it is"
        ) from None
    if done.returncode and fine not in done.stderr:
        raise refusal(words[0], done.stderr or f"exit {done.returncode}")
    return done.stdout


def refusal(what: str, said: str) -> HarkError:
    """Make one line of what SLURM said, and of what to do about it."""
    lines = [line.strip() for line in said.splitlines() if not line.startswith("Try ")]
    # "sbatch: error: ..." and "Batch job submission failed: ..." are for scripts to read
    words = "; ".join(line.rpartition("error: ")[2].rpartition("failed: ")[2] for line in lines if line)
    if any(sign in words for sign in AWAY):
        return HarkError(
            f"SLURM does not answer ({words}): nothing is known, and nothing was done; try again"
        )
    keys = next((keys for sign, keys in KEYS.items() if sign in words.lower()), "a key of cluster")
    return HarkError(f"SLURM refuses {what}: {words}; change {keys}")


def environment() -> dict[str, str]:
    """Give that of this process, without what a job that it runs in has set, or what changes the commands' output."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or (not name.startswith(PREFIXES) and name not in TORCH)
    }


@contextmanager
def outside() -> Iterator[io.StringIO]:
    """Let a library speak to SLURM as `ask` does; what it prints about refusals is given instead."""
    before = dict(os.environ)
    clean = environment()
    try:
        for name in before.keys() - clean.keys():
            del os.environ[name]
        with redirect_stderr(io.StringIO()) as said:
            yield said
    finally:
        os.environ.update(before)
