"""Swish, dropout and a linear layer: the second half of a feed-forward."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from research.nn.dropout import dropout, keep, kept
from research.nn.linear import Linear, on_onednn, product


class SwishLinear(Linear):
    """A linear layer of what Swish and dropout leave: (..., I) -> (..., O).

    Where oneDNN computes the layer and there is dropout, the backward pass computes Swish and dropout again: what the
    layer read, as large as the widest activations there are, is not kept for it.
    """

    def __init__(self, dim_in: int, dim: int, *, bias: bool, dropout: float) -> None:
        super().__init__(dim_in, dim, bias=bias)
        self.dropout = dropout

    def forward(self, x: Tensor) -> Tensor:
        p = self.dropout if self.training else 0.0
        if p == 0 or not on_onednn(x, self.weight):
            return super().forward(dropout(F.silu(x), p))
        x2 = x.flatten(0, -2)  # (M, I)
        y: Tensor = _SwishLinear.apply(x2, keep(x2.detach(), p), p, self.weight, self.bias)
        return y.unflatten(0, x.shape[:-1])


class _SwishLinear(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917  autograd passes them by position
        ctx: Any, x: Tensor, mask: Tensor, p: float, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x, mask, weight)
        ctx.p = p
        return product(kept(F.silu(x), mask, p), weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, weight = ctx.saved_tensors
        _, _, _, need_weight, need_bias = ctx.needs_input_grad
        low = kept(product(grad, weight.t()), mask, ctx.p)  # (M, I)
        return (
            torch.ops.aten.silu_backward(low, x),
            None,
            None,
            product(grad.t(), kept(F.silu(x), mask, ctx.p).t()) if need_weight else None,  # (O, I)
            grad.sum(0) if need_bias else None,  # (O,)
        )
