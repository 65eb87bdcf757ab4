"""Ranks, and checkpoints that tell their step, for the tests of the engine."""

import multiprocessing
import os
import socket
from contextlib import suppress
from itertools import cycle, islice

import torch

from research.engine.checkpoint import Checkpoints
from research.engine.gangs import start
from research.engine.weights import MODEL

VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OPTIMIZER = MODEL.replace("model", "optimizer")
TRAINER = "trainer/rank_00.pt"

# below the ports that Linux gives to whoever asks for any, and above those of SLURM's tests; a block for each process
# of xdist, where runs of pytest that know nothing of each other begin in different places
BLOCK = 100
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 70
PORTS = cycle(25200 + WORKER * BLOCK + (os.getpid() + i) % BLOCK for i in range(BLOCK))


def states(step, size=10):
    """States that tell their step: (model, optimizer, trainer)."""
    moments = {0: {"step": torch.tensor(float(step)), "exp_avg": torch.full((size,), step * 0.1)}}
    groups = [{"lr": 1e-3, "betas": (0.9, 0.98), "fused": True, "foreach": None, "params": [0]}]
    trainer = {"step": step, "cost": {"wall": 1.5}, "name": "ä"}
    return {"w": torch.full((size,), float(step))}, {"state": moments, "param_groups": groups}, trainer


def is_whole(state, step, size=10):
    model, optimizer, trainer = states(step, size)
    assert torch.equal(state.model["w"], model["w"])
    assert torch.equal(state.optimizer["state"][0]["exp_avg"], optimizer["state"][0]["exp_avg"])
    assert state.optimizer["param_groups"] == optimizer["param_groups"]
    return (state.step, state.trainer) == (step, trainer)


def free_port() -> int:
    """Give a port that nobody else takes before the ranks do, seconds later."""
    for port in islice(PORTS, BLOCK):
        with socket.socket() as one, suppress(OSError):
            one.bind(("", port))
            return port
    raise RuntimeError(f"all {BLOCK} ports of this process are taken")


def enter_rank(rank, size, port, work, args):
    values = (rank, rank, size, "127.0.0.1", port)
    os.environ.update(dict(zip(VARIABLES, map(str, values), strict=True)))
    torch.set_num_threads(1)
    ranks = start("cpu")
    work(ranks, *args)
    ranks.close()


def preload():
    """Let the server that ranks are forked from import once what they need."""
    needed = ("research.training.loop", "research.conformance.tools", "torch._dynamo")
    multiprocessing.set_forkserver_preload([*needed])


def run_ranks(size, work, *args):
    """Run `work(ranks, *args)` in `size` processes; whatever fails in one fails here."""
    preload()
    torch.multiprocessing.start_processes(
        enter_rank, (size, free_port(), work, args), nprocs=size, start_method="forkserver"
    )


def open_at(folder, keep_last=3, keep_best=0):
    return Checkpoints(folder, start("cpu"), keep_last, keep_best)


def save_three(folder):
    """Checkpoints of steps 1 to 3."""
    checkpoints = open_at(folder)
    for step in (1, 2, 3):
        checkpoints.save(step, *states(step))
    checkpoints.close()
    return folder
