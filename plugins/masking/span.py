from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Masking
from research.registry import register


@register("span")
class Span(Masking):
    """Spans of fixed length from random starts; they may overlap (wav2vec 2.0, arXiv 2006.11477, section 3.1).

    A row of L frames gets `prob * L / length` starts, drawn without replacement, the fraction rounded up with its
    own probability; at least `least`, and never more than there are places.
    """

    @dataclass(kw_only=True)
    class Config(Masking.Config):
        prob: float = 0.65  # share of frames that the spans would cover without overlap
        length: int = 10  # frames
        least: int = 1  # spans in a row that can hold one

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def forward(self, lengths: Tensor, size: int) -> Tensor:
        places = (lengths - self.cfg.length + 1).clamp(min=0)  # (B,) possible starts
        wanted = (self.cfg.prob * lengths / self.cfg.length + torch.rand(len(lengths))).long()  # (B,)
        wanted = torch.minimum(wanted.clamp(min=self.cfg.least), places)
        draw = torch.rand(len(lengths), size).masked_fill(
            torch.arange(size) >= places[:, None], 2.0
        )  # (B, S)
        rank = draw.argsort(dim=1).argsort(dim=1)  # (B, S)
        start = rank < wanted[:, None]  # (B, S)
        padded = F.pad(start.float(), (self.cfg.length - 1, 0))  # (B, S + length - 1)
        return F.max_pool1d(padded[:, None], self.cfg.length, stride=1)[:, 0].bool()  # (B, S)
