"""Targets that an encoder has not heard yet."""

from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Encoder
from research.errors import HarkError
from research.nn.functional import select


def heard(encoder: Encoder, objective: str) -> int:
    """How many frames ahead an encoder hears; HarkError when it hears all of them, for nothing is left to predict."""
    if encoder.ahead is None:
        raise HarkError(
            f"objective={objective}: predicts what the encoder has not heard yet, but this one hears everything; choose "
            "one that streams: encoder=fastconformer_tiny_causal, or any conformer or transformer with encoder.context=[-1,0] "
            "encoder.convolutions=causal"
        )
    return encoder.ahead


@dataclass
class Future:
    """Which of the next pieces every encoder frame is asked for. All on the host.

    Pieces are numbered through the batch: those of the first row, those of the second, ...
    """

    asked: Tensor  # bool (B, T, N): the row has that piece
    pieces: Tensor  # (M,) the number of each that is asked for, in the order of `asked`

    @classmethod
    def of(cls, counts: Tensor, size: int, first: int, n: int) -> "Future":
        """Frame t is asked for the pieces t + first to t + first + n - 1, of rows that have `counts` (B,) pieces."""
        piece = torch.arange(size)[:, None] + first + torch.arange(n)  # (T, N)
        asked = piece < counts[:, None, None]  # (B, T, N)
        before = counts.cumsum(0) - counts  # (B,) pieces of the rows before
        return cls(asked, (before[:, None, None] + piece)[asked])

    @property
    def asking(self) -> Tensor:
        """Frames that are asked for anything: bool (B, T)."""
        return self.asked[..., 0]

    def answers(self, y: Tensor) -> Tensor:
        """Leave out what nobody asked: (A, N, ...), all that the asking frames say, -> (M, ...)."""
        return select(y, self.asked[self.asking])

    def targets(self, x: Tensor, later: Tensor | int = 0) -> Tensor:
        """Give what is asked for, or a piece that comes so much later: (P, ...) of all pieces -> (M, ...)."""
        return x.index_select(0, (self.pieces + later).to(x.device, non_blocking=True))
