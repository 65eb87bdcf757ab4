"""What convolutions do inside: the order in memory that kernels read and write, and copies that they make and drop.

Of oneDNN this is measured (tests/benchmarks/predict.py); of cuDNN it is assumed, which works likewise: it wants channels
last, and makes copies in its workspace where they are not.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._prims_common import suggest_memory_format
from torch.utils._python_dispatch import TorchDispatchMode

from research.launch.shapes import Shapes

FORWARD, BACKWARD = torch.ops.aten.convolution.default, torch.ops.aten.convolution_backward.default

SHAPES = Shapes()  # of all models that are done without values: layers are alike


def planar(x: Tensor) -> Tensor:
    """(B, C, T) -> (B, C, 1, T): torch does 1-d convolutions so, of contiguous tensors."""
    return x if x.ndim != 3 else x.contiguous().unsqueeze(2)


def order_of(x: Tensor, weight: Tensor) -> torch.memory_format:
    """What torch chooses for a convolution of x (B, C, T) or (B, C, H, W)."""
    last = torch.channels_last
    chosen = last in (suggest_memory_format(planar(x)), suggest_memory_format(planar(weight)))
    return last if chosen else torch.contiguous_format


def copied(order: torch.memory_format, *tensors: Tensor) -> int:
    """Bytes of the copies of tensors that do not lie in order."""
    size = 0
    for x in tensors:
        flat = planar(x)
        size += x.nbytes * (x.ndim == 3 and not x.is_contiguous())
        size += x.nbytes * (not flat.is_contiguous(memory_format=order))
    return size


def reordered(x: Tensor) -> int:
    """Bytes of a copy in the kernel's own order; one channel needs none."""
    return x.nbytes if x.size(1) > 1 else 0


def forward(x: Tensor, weight: Tensor, *_: Any) -> int:
    """Bytes that a convolution takes and drops."""
    order = order_of(x, weight)
    blocks = 0 if order is torch.channels_last else reordered(x) + weight.nbytes
    return copied(order, x, weight) + blocks


def backward(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    """Likewise; the gradient of x is made in the kernel's order, put in torch's, and copied once more."""
    order = order_of(x, weight)
    blocks = 0
    if order is torch.contiguous_format:
        blocks = max(2 * reordered(x) * rest[-1][0], reordered(x) + grad.nbytes)
    return copied(order, grad, x, weight) + blocks


SCRATCH: dict[Any, Callable[..., int]] = {FORWARD: forward, BACKWARD: backward}


class Orders(TorchDispatchMode):
    """Let convolutions without values give what real ones do: in the order of the kernel."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = SHAPES.call(func, args, kwargs or {})
        if func is FORWARD and out.is_meta:
            return put(out, order_of(*args[:2]))
        if func is BACKWARD and args[0].is_meta:
            order = order_of(*args[1:3])
            return *(part if part is None else put(part, order) for part in out[:2]), out[2]
        return out


def put(x: Tensor, order: torch.memory_format) -> Tensor:
    """The same shape in another order."""
    if x.ndim == 3:
        return x.unsqueeze(2).contiguous(memory_format=order).squeeze(2)
    return x.contiguous(memory_format=order) if x.ndim == 4 else x
