"""Time-channel separable convolution blocks (QuartzNet, arXiv 1910.10261; Citrinet, arXiv 2104.01721).

Frames are (B, T, C) beside a mask bool (B, T) of the valid ones. A block of stride 2 gives ceil(T / 2) frames, whose
mask is every second element of the one that it got.
"""

from collections.abc import Callable
from enum import Enum

from torch import Tensor, nn
from torch.nn import functional as F

from research.nn.dropout import Dropout
from research.nn.functional import mean
from research.nn.linear import Linear
from research.nn.norm import BatchNorm

EPS = 1e-3  # of the batch norms, as in NeMo


class Activation(Enum):
    relu = "relu"
    swish = "swish"


ACTIVATION: dict[Activation, Callable[[Tensor], Tensor]] = {
    Activation.relu: F.relu,
    Activation.swish: F.silu,
}


def depthwise(x: Tensor, conv: nn.Module) -> Tensor:
    """Apply a 2-D convolution of height 1 along time: (B, T, C) -> (B, T', C)."""
    x = x.transpose(1, 2)[:, :, None]  # (B, C, 1, T): a view that is channels-last
    return conv(x)[:, :, 0].transpose(1, 2)


class Separable(nn.Module):
    """Depthwise convolution over time, pointwise over channels, batch norm."""

    def __init__(self, dim_in: int, dim: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.depthwise = nn.Conv2d(
            dim_in, dim_in, (1, kernel), (1, stride), padding=(0, kernel // 2), groups=dim_in, bias=False
        )
        self.pointwise = Linear(dim_in, dim, bias=False)
        self.norm = BatchNorm(dim, eps=EPS)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, ceil(T / stride), C')."""
        y = self.pointwise(depthwise(x * valid[..., None], self.depthwise))
        return self.norm(y, valid[:, :: self.stride])


class SqueezeExcite(nn.Module):
    """Scale every channel by a function of all channels' means over the utterance (arXiv 1709.01507)."""

    def __init__(self, dim: int, activation: Activation, ratio: int = 8) -> None:
        super().__init__()
        self.activation = ACTIVATION[activation]
        narrow = max(1, dim // ratio)
        self.down, self.up = Linear(dim, narrow, bias=False), Linear(narrow, dim, bias=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, T, C)."""
        return x * self.up(self.activation(self.down(mean(x, valid)))).sigmoid()[:, None].to(x.dtype)


class Block(nn.Module):
    """Separable convolutions one after the other, the last of them strided, then squeeze-and-excitation."""

    def __init__(
        self,
        dim_in: int,
        dim: int,
        kernel: int,
        activation: Activation,
        *,
        repeat: int = 1,
        stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.stride, self.activation = stride, ACTIVATION[activation]
        dims = [dim_in, *[dim] * (repeat - 1)]
        strides = [*[1] * (repeat - 1), stride]
        self.convolutions = nn.ModuleList(
            Separable(before, dim, kernel, step) for before, step in zip(dims, strides, strict=True)
        )
        self.excite = SqueezeExcite(dim, activation)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, ceil(T / stride), C')."""
        return self.finish(self.body(x, valid))

    def body(self, x: Tensor, valid: Tensor) -> Tensor:
        for convolution in self.convolutions[:-1]:
            x = self.finish(convolution(x, valid))
        x = self.convolutions[-1](x, valid)
        return self.excite(x, valid[:, :: self.stride])

    def finish(self, x: Tensor) -> Tensor:
        return self.dropout(self.activation(x))


class ResidualBlock(Block):
    """A block whose input, through a pointwise convolution of the same stride and batch norm, is added to it."""

    def __init__(
        self,
        dim: int,
        kernel: int,
        activation: Activation,
        *,
        repeat: int = 1,
        stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, dim, kernel, activation, repeat=repeat, stride=stride, dropout=dropout)
        self.shortcut = Linear(dim, dim, bias=False)
        self.shortcut_norm = BatchNorm(dim, eps=EPS)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, ceil(T / stride), C)."""
        every = slice(None, None, self.stride)
        beside = self.shortcut_norm(self.shortcut(x[:, every]), valid[:, every])
        return self.finish(self.body(x, valid) + beside)
