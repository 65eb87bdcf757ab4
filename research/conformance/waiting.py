"""A device without values, on which everything fails that would make the host wait for a device."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from research.training import step
from research.training.step import Outcome

META = torch.device("meta")
COPIES = {"_to_copy": 0, "copy_": 1}  # the argument that is copied
INDEXING = {"index", "index_put", "index_put_", "_unsafe_index", "_unsafe_index_put"}
READING = {"multinomial", "bincount"}  # CUDA's check their input on the host


@contextmanager
def no_values() -> Iterator[torch.device]:
    """Give a device whose tensors have a shape and no values: what would wait for a device fails on it.

    It has no autocast and no fused optimizer of its own, so it borrows the CPU's.
    """
    original = torch.autocast.__init__

    def borrow(self: torch.autocast, device_type: str, *args: Any, **kwargs: Any) -> None:
        original(self, "cpu" if device_type == "meta" else device_type, *args, **kwargs)

    with ExitStack() as stack:
        stack.enter_context(patch.object(torch.autocast, "__init__", borrow))
        stack.enter_context(patch("torch.optim.optimizer._get_fused_kernels_supported_devices", kinds))
        stack.enter_context(NoWaiting())
        yield META


def kinds() -> list[str]:
    return ["meta"]


@contextmanager
def read_once() -> Iterator[None]:
    """Let a training step on the device without values read its outcome, the one thing that it waits for."""
    reads = []

    def sound(*sums: Tensor) -> Outcome:
        reads.append(sums)
        if len(reads) > 1:
            raise RuntimeError("a step reads its outcome back twice")
        return Outcome(sound=True, stop=False, seconds=1.0, loss=1.0, grad_norm=1.0)

    with patch.object(step, "read_back", sound):
        yield


class NoWaiting(TorchDispatchMode):
    """Refuse what torch lets pass on its meta device, but waits on a real one."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if problem := waits(func.overloadpacket.__name__, args, kwargs, out):
            raise RuntimeError(problem)
        return out


def waits(name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> str:
    """Why the host would wait for an operation, or nothing."""
    if name in READING and args[0].device == META:
        return f"{name} waits for the device: choose without it"
    if name in COPIES and args[COPIES[name]].device.type == "cpu" and out.device == META:
        asynchronous = kwargs.get("non_blocking", len(args) > 2 and args[2])
        return "" if asynchronous else "a copy to the device waits for it: say non_blocking=True"
    if name in INDEXING and args[0].device == META:
        there = [index for index in args[1] if index is not None]
        if any(index.device.type == "cpu" and index.ndim > 0 for index in there):
            return "an index on the host waits for the device: index.to(x.device, non_blocking=True)"
    return ""
