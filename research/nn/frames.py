"""No encoder."""

from collections.abc import Sequence

from research.contracts import Encoded, Encoder, Seq
from research.nn.functional import stack


class Frames(Encoder):
    """What the frontend gives, `stride` frames side by side: layer 0 is all there is."""

    depth, ahead = 0, 0

    def __init__(self, dim: int, stride: int = 1) -> None:
        super().__init__()
        self.dim, self.stride, self.cfg = dim * stride, stride, {"dim": dim, "stride": stride}

    def embed(self, feats: Seq) -> Seq:  # (B, S, F) -> (B, T, r * F)
        return Seq(stack(feats.x, self.stride), -(-feats.lengths // self.stride))

    def context(self, x: Seq, layers: Sequence[int] = ()) -> Encoded:
        return Encoded(x, [x.x for _ in layers])
