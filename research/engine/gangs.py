"""The processes of one run: one alone, or ranks that torchrun or submitit started."""

import os
from dataclasses import dataclass
from typing import Any, cast

import torch
from fairseq2.gang import (
    FakeGang,
    Gang,
    GangError,
    Gangs,
    ProcessGroupGang,
    ReduceOperation,
    create_parallel_gangs,
)
from torch import Tensor

from research.errors import HarkError


@dataclass(frozen=True)
class Ranks:
    """What a run needs to know of its processes. One process has rank 0 of 1 and waits for nobody."""

    gangs: Gangs

    @property
    def rank(self) -> int:
        return self.gangs.root.rank

    @property
    def size(self) -> int:
        return self.gangs.root.size

    @property
    def device(self) -> torch.device:
        return self.gangs.root.device

    def all_sum(self, tensor: Tensor) -> None:
        """Sum a tensor that lies on `device` over the ranks, in place."""
        self.gangs.root.all_reduce(tensor, ReduceOperation.SUM)

    def barrier(self) -> None:
        self.gangs.root.barrier()

    def close(self) -> None:
        self.gangs.close()


class Nowhere(Ranks):
    """The only process of a run, on the device without values."""

    def __init__(self) -> None:
        super().__init__(cast("Any", None))

    @property
    def rank(self) -> int:
        return 0

    @property
    def size(self) -> int:
        return 1

    @property
    def device(self) -> torch.device:
        return torch.device("meta")

    def all_sum(self, tensor: Tensor) -> None:
        pass


def alone() -> Ranks:
    """Be the only process, on the CPU, whatever the environment tells of."""
    return Ranks(create_parallel_gangs(FakeGang(torch.device("cpu"))))


def start(device: str = "auto") -> Ranks:
    """Join the ranks that the environment tells of (WORLD_SIZE, as torchrun sets it), or be the only one.

    Ranks speak gloo on the CPU, NCCL on CUDA. `device` is auto (CUDA where there is one), cpu, cuda or cuda:N.
    HarkError when the device is not there, when a variable is missing, when the ranks do not meet.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    place = find_device(device, size)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    root: Gang = FakeGang(place) if size == 1 else meet(place)
    return Ranks(create_parallel_gangs(root))


def meet(device: torch.device) -> Gang:
    needed = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    missing = [name for name in needed if name not in os.environ]
    if missing:
        raise HarkError(f"WORLD_SIZE is set, but not {', '.join(missing)}: start several ranks with torchrun")
    try:
        return ProcessGroupGang.create_default_process_group(device)
    except GangError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise HarkError(f"the ranks did not meet at {where}: {error.__cause__ or error}") from error


def find_device(name: str, size: int = 1) -> torch.device:
    """Give the device of this process; of several ranks on a machine each takes the one of its local rank."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise HarkError(f"run.device={name}: no such device (there are: auto, cpu, cuda, cuda:N)") from None
    if device.type == "cpu":
        return device
    if device.type != "cuda":
        raise HarkError(f"run.device={name}: runs go on cpu or cuda")
    if size > 1 and device.index is not None:
        raise HarkError(f"run.device={name}: each of {size} ranks takes its own device, type run.device=cuda")
    there = torch.cuda.device_count()
    local = int(os.environ.get("LOCAL_RANK", "0")) if size > 1 and there > 1 else device.index or 0
    if local >= there:
        raise HarkError(f"run.device={name}: no CUDA device {local} is visible, only {there}")
    return torch.device("cuda", local)
