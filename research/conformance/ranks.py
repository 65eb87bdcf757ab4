"""Two real ranks against one process: in processes of their own, which a fork server starts in milliseconds."""

import importlib
import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.spawn import ProcessException, start_processes

from research import registry
from research.config import Parallel
from research.conformance.case import Case, speech
from research.conformance.rules import Broken
from research.conformance.tools import close, moved, snapshot, student, train
from research.contracts import Batch, Objective
from research.engine.gangs import Ranks, start

STEPS = 2
PATIENCE = 600  # seconds until two ranks must be done
OVERRIDES = ("train.batches=2", "optimizer.eps=1.0")  # no division by tiny gradients: rounding stays rounding


def ranks_are_micro_batches(case: Case) -> None:
    """Two ranks with a batch each end where one process with both batches ends, and log the same.

    So do two ranks that share the model's parameters. On more devices the same config would be another
    method.
    """
    with tempfile.TemporaryDirectory() as folder:
        run_ranks(case, Path(folder))
        ends = [torch.load(Path(folder) / f"{rank}.pt") for rank in (0, 1)]
    if keys := moved(*(each[Parallel.ddp.value]["model"] for each in ends)):
        raise Broken(
            f"{keys[0]} differs between two ranks after {STEPS} steps: on_step_end must sum over ranks "
            "(torch.distributed.all_reduce) what forward collected"
        )
    model = case.model()
    it = student(model, case.config(*OVERRIDES))
    values = train(it, [batch_of(model, step, rank) for step in range(STEPS) for rank in (0, 1)]).pop(
        lambda _: None
    )
    for parallel, end in ends[0].items():
        compare(f"two ranks ({parallel})", end, snapshot(model), values)


def compare(who: str, end: dict[str, Any], model: dict[str, Tensor], values: dict[str, float]) -> None:
    """Broken unless ranks ended with the weights of one process and logged its values."""
    for key, value in model.items():
        if not close(end["model"][key], value):
            raise Broken(
                f"{key} of {who} differs from that of one process with the same micro-batches: what is done per "
                "rank, or per forward, belongs into a sum over ranks in on_step_end"
            )
    if end["values"].keys() != values.keys():
        raise Broken(f"{who} log other stats than one process: give the same ones from every batch")
    for name, number in values.items():
        if abs(end["values"][name] - number) > 1e-3 * abs(number) + 1e-6:
            raise Broken(
                f"{who} log {name}={end['values'][name]:.6g}, one process {number:.6g}: give the stat as a sum and its weight"
            )


def batch_of(model: Objective, step: int, rank: int) -> Batch:
    """One rank has less than the other, and in the second step nothing that could be masked."""
    seconds = ((1.2, 0.9), (0.8, 0.7)) if step == 0 else ((1.0, 0.7), (0.1,))
    return speech(model, seconds[rank], seed=2 * step + rank)


def run_ranks(case: Case, folder: Path) -> None:
    """Train in two processes; whatever fails in one is Broken here."""
    multiprocessing.set_forkserver_preload([__name__, "torch._dynamo"])
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    arguments = (port, case.cls.__module__, case, str(folder))
    context = start_processes(rank_main, arguments, 2, join=False, start_method="forkserver")
    assert context is not None
    deadline = time.monotonic() + PATIENCE
    try:
        while not context.join(timeout=1):
            if time.monotonic() > deadline:
                raise Broken(
                    "two ranks wait for each other for ever: every rank must make the same collective calls"
                )
    except ProcessException as error:
        says = str(error).strip().splitlines()[-1].removeprefix(f"{Broken.__module__}.Broken: ")
        raise Broken(f"one of two ranks failed: {says}; make no difference between ranks") from error
    finally:
        for process in context.processes:
            process.kill()
            process.join()


def rank_main(rank: int, port: int, module: str, case: Case, folder: str) -> None:
    """Be one of the ranks; what libraries print goes into a file."""
    with open(Path(folder) / f"{rank}.log", "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    os.environ.update(zip(names, (str(rank), str(rank), "2", "127.0.0.1", str(port)), strict=True))
    torch.set_num_threads(1)
    registry.load_plugins()
    importlib.import_module(module)  # when $HARK_PLUGINS came too late for the fork server
    ranks = start("cpu")
    ends = {parallel.value: trained(case, ranks, parallel) for parallel in Parallel}
    torch.save(ends, Path(folder) / f"{rank}.pt")
    ranks.close()


def trained(case: Case, ranks: Ranks, parallel: Parallel) -> dict[str, Any]:
    """Give what a rank ends with."""
    model = case.model()
    batches = [batch_of(model, step, ranks.rank) for step in range(STEPS)]
    it = student(model, case.config(*OVERRIDES, f"train.parallel={parallel.value}"), ranks)
    bag = train(it, batches)
    return {"model": snapshot(model), "values": bag.pop(ranks.all_sum)}
