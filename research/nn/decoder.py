"""From encoder frames to one vector for each target."""

from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Seq
from research.nn.functional import select
from research.nn.linear import Linear
from research.nn.norm import BatchNorm
from research.nn.separable import EPS, depthwise


class Readout(nn.Module):
    """One linear layer."""

    def __init__(self, dim_in: int, dim: int) -> None:
        super().__init__()
        self.last = Linear(dim_in, dim)

    def forward(self, x: Seq, hit: Tensor) -> Tensor:
        """The frames that `hit` (B, T) marks on the host: (B, T, D) -> (M, P)."""
        return self.last(select(x.x, hit))


class Doubling(nn.Module):
    """Twice as many frames: a transposed depthwise convolution, a pointwise one, batch norm."""

    def __init__(self, dim: int, kernel: int = 11) -> None:
        super().__init__()
        self.spread = nn.ConvTranspose2d(
            dim, dim, (1, kernel), (1, 2), padding=(0, kernel // 2), output_padding=(0, 1), groups=dim
        )
        self.pointwise = Linear(dim, dim)
        self.norm = BatchNorm(dim, eps=EPS)

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, C) and bool (B, T) -> (B, 2 T, C) and bool (B, 2 T)."""
        y = self.pointwise(depthwise(x * valid[..., None], self.spread))
        valid = valid.repeat_interleave(2, dim=1)
        return self.norm(y, valid), valid


class Decoder(nn.Module):
    """Two linear layers, between them doublings of the frame rate: `upsample` (1, 2, 4, ...) vectors for each frame.

    This is what NeMo puts on the encoder for its contrastive loss.
    """

    def __init__(self, dim_in: int, hidden: int, dim: int, upsample: int = 1) -> None:
        super().__init__()
        self.first = Linear(dim_in, hidden)
        self.doublings = nn.ModuleList(Doubling(hidden) for _ in range(upsample.bit_length() - 1))
        self.last = Linear(hidden, dim)

    def forward(self, x: Seq, hit: Tensor) -> Tensor:
        """The targets that `hit` (B, U) marks on the host: (B, T, D) -> (M, P), where U <= T * upsample."""
        y, valid = self.first(x.x), x.valid  # (B, T, H)
        for doubling in self.doublings:
            y, valid = doubling(F.relu(y), valid)  # (B, 2 T, H), again and again
        return self.last(F.relu(select(y[:, : hit.size(1)], hit)))
