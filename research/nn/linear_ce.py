"""Cross-entropy of a linear layer's logits without all of the logits.

Over many codes the logits of a batch are far more memory than the layer that makes them. Here they are made for some
frames at a time, turned into the gradients of frames, weights and bias at once, and forgotten.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from research.contracts import Loss
from research.nn.functional import likeliest, masked_ce, told
from research.nn.linear import linear

ROOM = 2**24  # logits that may exist at once
LEAST = 256  # but no fewer frames at a time: the weights are read anew for every piece


def linear_ce(x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor) -> Loss:
    """`masked_ce` of the logits of a linear layer: x (M, D), weight (G * V, D), bias (G * V,), ids (M, G).

    Logits that have room are simply computed. Else gradients are made in the forward pass, matrix products in
    autocast's dtype and the softmax in fp32; they cannot be differentiated again.
    """
    books = ids.size(1)
    if len(x) * len(weight) <= ROOM:
        return masked_ce(linear(x, weight, bias).unflatten(-1, (books, -1)), ids)
    if torch.is_grad_enabled():
        total, best = _LinearCE.apply(x, weight, bias, ids)
    else:
        total, best, _ = by_pieces(x, weight, bias, ids, (False,) * 3)
    return told(total / books, best, ids, len(weight) // books)


class _LinearCE(torch.autograd.Function):
    """The summed cross-entropy of all books, and the likeliest codes (M, G)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        total, best, grads = by_pieces(x, weight, bias, ids, ctx.needs_input_grad)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(best)
        return total, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        dx, dw, db = (None if made is None else made * grad.to(made.dtype) for made in ctx.saved_tensors)
        return dx, dw, db, None


def by_pieces(
    x: Tensor, weight: Tensor, bias: Tensor | None, ids: Tensor, wanted: Sequence[bool]
) -> tuple[Tensor, Tensor, list[Tensor | None]]:
    """The loss, the likeliest codes (M, G), and those gradients that are wanted: of x, weight and bias."""
    device = "cpu" if x.is_meta else x.device.type  # meta tensors have no autocast of their own
    best, rows = torch.empty_like(ids), rows_of(len(x), len(weight))
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    exact = torch.promote_types(dtype, torch.float32)
    dx = torch.zeros_like(x) if wanted[0] else None
    dw = torch.zeros_like(weight) if wanted[1] else None
    db = torch.zeros_like(bias) if bias is not None and wanted[2] else None
    total = x.new_zeros((), dtype=exact)
    with torch.autocast(device, enabled=False):
        x, w, b = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
        for at in range(0, len(x), rows):
            part, own = x[at : at + rows], ids[at : at + rows, :, None]  # (m, D), (m, G, 1)
            logits = linear(part, w, b).unflatten(-1, (ids.size(1), -1))  # (m, G, V)
            logs = F.log_softmax(logits, -1, dtype=exact)
            del logits
            best[at : at + rows] = likeliest(logs)
            total -= logs.gather(-1, own).sum()
            if not any(wanted):
                continue
            slope = logs.exp_().scatter_add_(-1, own, -torch.ones_like(own, dtype=exact)).flatten(1)
            if db is not None:
                db += slope.sum(0)
            slope = slope.to(dtype)  # (m, G * V)
            if dx is not None:
                dx[at : at + rows] = linear(slope, w.t())
            if dw is not None:
                dw += linear(slope.t(), part.t())
    return total, best, [dx, dw, db]


def rows_of(frames: int, width: int) -> int:
    """How many frames at a time: pieces of one size."""
    pieces = -(-frames * width // ROOM)
    return max(LEAST, -(-frames // pieces))
