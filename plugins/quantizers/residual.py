from dataclasses import dataclass

import torch
from torch import Tensor, nn

from plugins.quantizers.ema import EMA
from research.contracts import Codes, Quantizer
from research.errors import HarkError
from research.registry import register

RARE = 0.05  # of an average code's inputs: a code that has fewer is dead


@register("residual")
class Residual(Quantizer):
    """Books in a row, each of which quantizes what those before it left (RVQ, arXiv 2107.03312, algorithm 1).

    Codes are moving averages of their inputs (`quantizer=ema`), nothing is trained. The vector of an input is the sum
    of its codes; its gradient goes straight through to the input, and the penalty is the mean square between the two,
    which draws the input to its codes. Objectives that train no quantizer take the ids. Where the paper begins with
    k-means and puts random inputs in the place of dead codes, these halve the inputs of the commonest ones: the same
    on every rank, and a codebook fills up by doubling, one step after another.
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
        self.stages = nn.ModuleList(Splitting(one, dim_in=dim_in) for _ in range(cfg.books))

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
            assert isinstance(stage, Splitting)
            stage.refit()


class Splitting(EMA):
    """A book whose dead codes take half of the inputs of a common one (Linde, Buzo and Gray 1980)."""

    def __init__(self, cfg: EMA.Config, *, dim_in: int) -> None:
        super().__init__(cfg, dim_in=dim_in)
        self.refit()  # the first inputs say where codes are

    def move(self, mean: Tensor, count: Tensor) -> None:
        super().move(mean, count)
        order = self.weight.argsort(
            descending=True, stable=True
        )  # (V,) the k-th commonest gives to the k-th rarest
        giver, taker = order, order.flip(0)
        average = self.weight.mean()
        splits = (self.weight[giver] >= average) & (self.weight[taker] < RARE * average)  # (V,)
        aside = self.codebook[giver].lerp(
            self.codebook[taker], 0.01
        )  # (V, C) a little, to where the dead code was
        half = self.weight[giver] / 2  # (V,)
        self.codebook[taker] = torch.where(splits[:, None], aside, self.codebook[taker])
        self.weight[taker] = torch.where(splits, half, self.weight[taker])
        self.weight[giver] = torch.where(splits, half, self.weight[giver])
