from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from research.contracts import Masking
from research.errors import HarkError
from research.registry import preset, register


class Lengths(Enum):
    """How many frames a span has; all but `static` give no fewer than `shortest`, and no more than the row has."""

    static = "static"  # `length`; a shorter row has no span
    uniform = "uniform"  # `shortest` to 2 * `length`, each as likely
    normal = "normal"  # mean `length`, standard deviation `deviation`
    poisson = "poisson"  # mean `length`


@register("span")
class Span(Masking):
    """Spans from random starts; they may overlap (wav2vec 2.0, arXiv 2006.11477, section 3.1).

    A row of L frames gets `prob * L / length` starts, drawn without replacement, the fraction rounded up with its
    own probability; at least `least`, and never more than there are places. Every place draws how long its span would
    be, and may be a start where that fits: spans lie whole within their row, where fairseq cuts off what does not.
    """

    @dataclass(kw_only=True)
    class Config(Masking.Config):
        prob: float = 0.65  # share of frames that the spans would cover without overlap
        length: int = 10  # frames
        least: int = 1  # spans in a row that can hold one
        lengths: Lengths = Lengths.static
        shortest: int = 1  # frames
        deviation: float = 3.0  # frames

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        if not 0 <= cfg.prob <= 1:
            raise HarkError(f"masking.prob={cfg.prob:g}: a share of frames is between 0 and 1")
        if not 1 <= cfg.shortest <= cfg.length:
            raise HarkError(
                f"masking.shortest={cfg.shortest}, masking.length={cfg.length}: type 1 <= shortest <= length"
            )
        if cfg.deviation < 0:
            raise HarkError(f"masking.deviation={cfg.deviation:g}: a standard deviation is not below 0")
        self.cfg = cfg

    def forward(self, lengths: Tensor, size: int) -> Tensor:
        frame = torch.arange(size)  # (S,)
        end = frame + self.draw(lengths, size)  # (B, S) of the span that would begin there
        possible = end <= lengths[:, None]  # (B, S)
        wanted = (self.cfg.prob * lengths / self.cfg.length + torch.rand(len(lengths))).long()  # (B,)
        wanted = torch.minimum(wanted.clamp(min=self.cfg.least), possible.sum(1))
        draw = torch.rand(len(lengths), size).masked_fill(~possible, 2.0)  # (B, S)
        start = draw.argsort(dim=1).argsort(dim=1) < wanted[:, None]  # (B, S)
        return frame < end.masked_fill(~start, 0).cummax(dim=1).values  # (B, S)

    def draw(self, lengths: Tensor, size: int) -> Tensor:
        """Frames of the span that would begin at each place, at most those of the row if it is random: (B, S)."""
        cfg = self.cfg
        mean = torch.full((len(lengths), size), float(cfg.length))  # (B, S)
        match cfg.lengths:
            case Lengths.static:
                return mean.long()
            case Lengths.uniform:
                frames = torch.randint(cfg.shortest, 2 * cfg.length + 1, mean.shape)
            case Lengths.normal:
                frames = (mean + cfg.deviation * torch.randn(mean.shape)).round().long()
            case Lengths.poisson:
                frames = torch.poisson(mean).long()
        return frames.clamp(min=cfg.shortest).minimum(lengths[:, None].clamp(min=cfg.shortest))


preset("span_uniform", Span.Config(lengths=Lengths.uniform))
preset("span_normal", Span.Config(lengths=Lengths.normal))
preset("span_poisson", Span.Config(lengths=Lengths.poisson))
