"""A linear layer whose matrix products a CPU computes with oneDNN.

torch gives products of fp32 to MKL, which on AMD's processors leaves half of their width unused; oneDNN does not. On
other devices, in other dtypes, under autocast, and where there is little to multiply this is torch's own layer.
"""

from typing import Any

import torch
from torch import Tensor, library, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_LEAST = 2**22  # products: below, oneDNN's overhead is more than it saves
_THERE = torch.backends.mkldnn.is_available()


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(M, I) and (O, I) of any strides, contiguous (O,) -> (M, O)."""
    if torch.compiler.is_compiling():
        return opaque(x, weight, bias)
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")  # noqa: SLF001  its only name
    return y


@library.custom_op("hark::product", mutates_args=())
def opaque(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`product` that inductor calls as it is: of its own it takes constant weights only."""
    return product(x, weight, bias)


@opaque.register_fake
def shape(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ARG001  as the operator
    return x.new_empty(x.size(0), weight.size(0))


class _Linear(torch.autograd.Function):
    """`F.linear` of fp32 on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        need_x, need_weight, need_bias = ctx.needs_input_grad
        return (
            product(grad, weight.t()) if need_x else None,  # (M, I)
            product(grad.t(), x.t()) if need_weight else None,  # (O, I)
            grad.sum(0) if need_bias else None,  # (O,)
        )


def on_onednn(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN computes the product of (..., I) and (O, I)."""
    large = torch.compiler.is_compiling() or x.numel() * len(weight) >= _LEAST  # one graph for all sizes
    large = large and x.numel() > 0 and x.ndim > 1
    plain = x.dtype is torch.float32 is weight.dtype and x.device.type == "cpu"
    return large and plain and _THERE and not torch.is_autocast_enabled("cpu")


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """(..., I), (O, I), (O,) -> (..., O), as `F.linear`; where oneDNN computes it, it is differentiated once."""
    if not on_onednn(x, weight):
        return F.linear(x, weight, bias)
    y: Tensor = _Linear.apply(x.flatten(0, -2), weight, bias)
    return y.unflatten(0, x.shape[:-1])


class Linear(nn.Linear):
    """`nn.Linear`, by `linear`: (..., I) -> (..., O)."""

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)
