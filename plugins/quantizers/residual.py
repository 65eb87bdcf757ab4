from dataclasses import dataclass

import torch
from torch import Tensor, nn

from plugins.quantizers.ema import EMA
from research.contracts import Codes, Quantizer
from research.errors import HarkError
from research.registry import register

RARE = 0.1  # of the inputs that an average code gets in a step: one that is left with fewer is dead


@register("residual")
class Residual(Quantizer):
    """Books in a row, each of which quantizes what those before it left (RVQ, arXiv 2107.03312, algorithm 1).

    Codes are moving averages of their inputs (`quantizer=ema`), nothing is trained. The vector of an input is the sum
    of its codes; its gradient goes straight through to the input, and the penalty is the mean square between the two,
    which draws the input to its codes. Objectives that train no quantizer take the ids. As in the paper, dead codes
    begin again at random inputs; where it begins with k-means, these begin at random inputs too.
    """

    example = ("objective=wav2vec2", "quantizer.books=3", "quantizer.codes=8")
    online = True

    @dataclass(kw_only=True)
    class Config(Quantizer.Config):
        books: int = 8  # G, each of what those before it left over
        codes: int = 1024  # in each book
        decay: float = 0.99  # share of a code's average that a step keeps

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        if cfg.books < 1 or cfg.codes < 2:
            raise HarkError(
                f"quantizer.books={cfg.books}, quantizer.codes={cfg.codes}: type at least one book of two codes"
            )
        self.books, self.codes, self.dim = cfg.books, cfg.codes, dim_in
        one = EMA.Config(codes=cfg.codes, decay=cfg.decay)
        self.stages = nn.ModuleList(Reviving(one, dim_in=dim_in) for _ in range(cfg.books))

    def forward(self, x: Tensor) -> Codes:  # (..., C) -> ids (..., G), vectors (..., C)
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            left, ids = x.detach(), []  # (..., C)
            for stage in self.stages:
                codes = stage(left)
                ids.append(codes.ids)  # (..., 1)
                left = left - codes.vectors
            summed = x.detach() - left  # (..., C)
            penalty = (x - summed).square().sum() / max(1, x.numel())
            return Codes(torch.cat(ids, -1), x + (summed - x).detach(), penalty=penalty)

    def refit(self) -> None:
        for stage in self.stages:
            assert isinstance(stage, Reviving)
            stage.refit()


class Reviving(EMA):
    """A book that lets dead codes begin again, at random inputs of the step."""

    def move(self) -> None:
        super().move()
        average = (1 - self.decay) * self.weight.clamp(min=0).mean()  # inputs of a step
        self.weight.masked_fill_((self.weight > 0) & (self.weight < RARE * average), 0)
