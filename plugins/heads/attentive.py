from dataclasses import dataclass

from torch import nn

from research.contracts import Seq
from research.downstream import Head
from research.nn.pooling import AttentiveStatistics, utterance
from research.registry import register


@register("attentive")
class Attentive(Head):
    """Mean and deviation of frames, weighted by attention (arXiv 1803.10963), between two projections."""

    example = ("head.hidden=16", "head.attention=8", "head.dim=16")

    @dataclass(kw_only=True)
    class Config(Head.Config):
        hidden: int = 256  # of a frame
        attention: int = 128  # hidden width of the attention
        dim: int = 192  # of the vector

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        self.dim = cfg.dim
        self.proj = nn.Linear(dim_in, cfg.hidden)
        self.pool = AttentiveStatistics(cfg.hidden, cfg.attention)
        self.out = nn.Linear(2 * cfg.hidden, cfg.dim)

    def forward(self, x: Seq) -> Seq:
        pooled = self.pool(self.proj(x.x), x.valid)[:, None]  # (B, 1, 2 hidden)
        return utterance(self.out(pooled), x)  # (B, 1, E)
