from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Loss, Seq
from research.downstream import Criterion
from research.nn.supervised import pairs, summed
from research.registry import register


@register("cross_entropy")
class CrossEntropy(Criterion):
    """A linear layer and cross-entropy, one label for each vector. In fp32 whatever the compute dtype."""

    @dataclass(kw_only=True)
    class Config(Criterion.Config):
        pass

    def __init__(self, cfg: Config, *, dim_in: int, classes: int) -> None:
        super().__init__()
        self.out = nn.Linear(dim_in, classes)

    def forward(self, h: Seq, labels: Seq) -> Loss:  # (B, U, E), (B, U', 1)
        vectors, targets = pairs(h, labels)  # (M, E), (M,)
        scores = self.out(vectors).float()  # (M, K)
        return summed(F.cross_entropy(scores, targets, reduction="none"), scores, targets)

    def scores(self, h: Seq) -> Tensor:  # (B, U, E) -> (B, U, K)
        return self.out(h.x).float()
