"""The decoder of data2vec 2.0: a few grouped convolutions, far cheaper than the encoder."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Seq
from research.nn.dropout import Dropout
from research.nn.functional import select
from research.nn.linear import Linear


@dataclass(kw_only=True)
class DecoderConfig:
    """Of data2vec 2.0 Base."""

    dim: int = 384  # channels of every convolution
    depth: int = 4  # convolutions
    kernel: int = 7  # frames
    groups: int = 16  # of the channels
    dropout: float = 0.1  # on what it reads


class ConvDecoder(nn.Module):
    """Grouped convolution, norm without parameters, GELU, residual sum, again and again; then a linear layer.

    arXiv 2212.07525, section 3.1. The first sum is left out where the widths differ.
    """

    def __init__(self, dim_in: int, cfg: DecoderConfig) -> None:
        super().__init__()
        self.dropout = Dropout(cfg.dropout)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(dim_in if k == 0 else cfg.dim, cfg.dim, cfg.kernel, padding="same", groups=cfg.groups)
            for k in range(cfg.depth)
        )
        self.out = Linear(cfg.dim, dim_in)

    def forward(self, x: Seq, hit: Tensor) -> Tensor:
        """Predictions for the frames that `hit` (B, T) marks on the host: (B, T, D) -> (M, D)."""
        y, inside = self.dropout(x.x), x.valid[..., None]  # (B, T, D), (B, T, 1)
        for convolution in self.convolutions:
            spread = convolution((y * inside).transpose(1, 2)).transpose(1, 2)  # (B, T, P)
            spread = F.gelu(F.layer_norm(spread, spread.shape[-1:]))
            y = y + spread if y.size(2) == spread.size(2) else spread
        return self.out(select(y, hit))
