"""Time-delay blocks of ECAPA-TDNN (arXiv 2005.07143). Frames are (B, T, C) beside a mask bool (B, T) of the valid ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.nn.functional import mean
from research.nn.norm import BatchNorm


class TDNN(nn.Module):
    """Convolution over time that reads zeros past a row's end, ReLU, batch norm."""

    def __init__(self, dim_in: int, dim: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim_in, dim, kernel, dilation=dilation, padding=dilation * (kernel // 2))
        self.norm = BatchNorm(dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, T, C')."""
        x = (x * valid[..., None]).transpose(1, 2)  # (B, C, T)
        return self.norm(F.relu(self.conv(x)).transpose(1, 2), valid)  # (B, T, C')


class Res2(nn.Module):
    """Groups of channels, each convolved together with what the group before it gave (arXiv 1904.01169)."""

    def __init__(self, dim: int, kernel: int, dilation: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        width = dim // scale
        self.convolutions = nn.ModuleList(TDNN(width, width, kernel, dilation) for _ in range(scale - 1))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, T, C)."""
        first, *groups = x.chunk(self.scale, -1)  # each (B, T, C / scale)
        outs, before = [first], torch.zeros_like(first)
        for group, convolution in zip(groups, self.convolutions, strict=True):
            before = convolution(group + before, valid)
            outs.append(before)
        return torch.cat(outs, -1)


class Squeeze(nn.Module):
    """Scale every channel by what the means of all channels say (arXiv 1709.01507)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, T, C)."""
        return x * self.up(F.relu(self.down(mean(x, valid)))).sigmoid()[:, None].to(x.dtype)


class SERes2(nn.Module):
    """Res2 between two pointwise layers, squeeze-and-excitation, and the input added to it."""

    def __init__(self, dim: int, kernel: int, dilation: int, scale: int, squeeze: int) -> None:
        super().__init__()
        self.before, self.after = TDNN(dim, dim), TDNN(dim, dim)
        self.res2 = Res2(dim, kernel, dilation, scale)
        self.squeeze = Squeeze(dim, squeeze)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, C), bool (B, T) -> (B, T, C)."""
        y = self.res2(self.before(x, valid), valid)
        return x + self.squeeze(self.after(y, valid), valid)
