from dataclasses import dataclass

from torch import nn

from research.contracts import Seq
from research.downstream import Head
from research.nn.functional import mean
from research.nn.pooling import utterance
from research.registry import register


@register("linear")
class Linear(Head):
    """Mean over frames of a linear projection: SUPERB's head for utterances (arXiv 2105.01051)."""

    example = ("head.dim=16",)

    @dataclass(kw_only=True)
    class Config(Head.Config):
        dim: int = 256  # of the vectors

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        self.dim = cfg.dim
        self.proj = nn.Linear(dim_in, cfg.dim)

    def forward(self, x: Seq) -> Seq:
        pooled = mean(x.x, x.valid)[:, None]  # (B, 1, C)
        return utterance(self.proj(pooled), x)  # (B, 1, E), the mean of the projection for T times less
