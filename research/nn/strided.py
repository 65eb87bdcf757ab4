"""Strided 1-D convolutions over frames, (B, T, C), at the rate of matrix products on a CPU too."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from research.nn.linear import product


def strided(x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
    """`F.conv1d` without padding: (B, T, C), (C', C, K) and (C',) -> (B, T', C')."""
    if weight.size(1) > 1 and channels_last(x):
        y: Tensor = _Strided.apply(x, weight, bias, stride)
        return y
    return F.conv1d(x.transpose(1, 2), weight, bias, stride).transpose(1, 2)


def channels_last(x: Tensor) -> bool:
    """Whether `_Strided` is for this: fp32 on a CPU, or without values where one is planned for."""
    here = x.device.type in {"cpu", "meta"} and not x.is_cuda and torch.backends.mkldnn.is_available()
    return here and x.dtype is torch.float32 and not torch.is_autocast_enabled("cpu")


class _Strided(torch.autograd.Function):
    """`F.conv1d` of fp32 on a CPU, whose memory holds a frame's channels side by side."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, stride: int) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return frames_of(F.conv2d(image(x), kernels(weight), bias, (1, stride)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad, dx, dw = grad.contiguous(), None, None
        if ctx.needs_input_grad[0]:
            dx, _, _ = torch.ops.aten.convolution_backward(
                image(grad), image(x), kernels(weight), None, [1, ctx.stride], [0, 0], [1, 1], False, [0, 0], 1,
                [True, False, False],
            )  # fmt: skip
            dx = frames_of(dx)
        if ctx.needs_input_grad[1]:  # by products: oneDNN's own takes five times as long over many frames
            dw = torch.stack(
                [of_row(g, row, weight, ctx.stride) for g, row in zip(grad, x, strict=True)]
            ).sum(0)
        return dx, dw, grad.sum((0, 1)) if ctx.needs_input_grad[2] else None, None


def of_row(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The gradient of the weight from one row: (T', C') and (T, C) -> (C', C, K)."""
    size, (_, channels, kernel) = len(grad), weight.shape
    windows = x.as_strided((size, kernel * channels), (stride * channels, 1))  # (T', K C)
    dw = product(grad.t(), windows.contiguous().t())  # (C', K C)
    return dw.unflatten(1, (kernel, channels)).transpose(1, 2)


def image(x: Tensor) -> Tensor:
    """(B, T, C) -> (B, C, 1, T), channels last."""
    return x.transpose(1, 2)[:, :, None]


def frames_of(x: Tensor) -> Tensor:
    """(B, C, 1, T) -> (B, T, C)."""
    return x[:, :, 0].transpose(1, 2)


def kernels(weight: Tensor) -> Tensor:
    """(C', C, K) -> (C', C, 1, K), channels last."""
    return weight[:, :, None].contiguous(memory_format=torch.channels_last)
