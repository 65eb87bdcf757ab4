import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Loss, Seq
from research.downstream import Criterion
from research.errors import HarkError
from research.nn.supervised import pairs, summed
from research.registry import register

NORM = 1e-6  # the least norm that is divided by
SQUARE = 1e-7  # the least squared sine: the slope of its root stays finite where a vector meets its class


@register("aam")
class AAM(Criterion):
    """Cross-entropy of cosines, with a margin added to the angle to the right class (ArcFace, arXiv 1801.07698, eq. 3).

    Past the angle at which the margin would reach half a turn, where cos(angle + margin) rises again, a constant is
    taken from the cosine instead, so that a larger angle always costs more. Scores are cosines without the margin.
    """

    weight: Tensor  # (K, E) one direction per class

    @dataclass(kw_only=True)
    class Config(Criterion.Config):
        scale: float = 30.0  # that cosines are multiplied by
        margin: float = 0.2  # radians

    def __init__(self, cfg: Config, *, dim_in: int, classes: int) -> None:
        super().__init__()
        if not 0 <= cfg.margin < math.pi / 2:
            raise HarkError(f"criterion.margin={cfg.margin}: choose an angle in radians, 0 to below 1.57")
        self.cfg = cfg
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(classes, dim_in)))

    def forward(self, h: Seq, labels: Seq) -> Loss:  # (B, U, E), (B, U', 1)
        vectors, targets = pairs(h, labels)  # (M, E), (M,)
        cosine = self.cosine(vectors)  # (M, K)
        right = cosine.gather(1, targets[:, None])  # (M, 1)
        logits = cosine.scatter(1, targets[:, None], self.widened(right))  # (M, K)
        losses = F.cross_entropy(self.cfg.scale * logits, targets, reduction="none")  # (M,)
        return summed(losses, cosine, targets)

    def widened(self, cosine: Tensor) -> Tensor:
        """Cosine of an angle -> cosine of the angle with the margin, going on downwards beyond half a turn."""
        margin = self.cfg.margin
        sine = (1 - cosine.square()).clamp(min=SQUARE).sqrt()
        turned = cosine * math.cos(margin) - sine * math.sin(margin)
        return torch.where(cosine > -math.cos(margin), turned, cosine - margin * math.sin(margin))

    def cosine(self, x: Tensor) -> Tensor:  # (..., E) -> (..., K)
        with torch.autocast(x.device.type, enabled=False):
            x = F.normalize(x.float(), dim=-1, eps=NORM)
            return x @ F.normalize(self.weight, dim=-1, eps=NORM).T

    def scores(self, h: Seq) -> Tensor:  # (B, U, E) -> (B, U, K)
        return self.cfg.scale * self.cosine(h.x)
