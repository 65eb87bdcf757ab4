from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.downstream import Aggregation
from research.registry import preset, register


class Weights(Enum):
    """How the learned numbers become weights."""

    softmax = "softmax"  # positive, of sum 1
    free = "free"  # as they are


class LayerScale(Enum):
    """What is done to a layer's frames before they are weighted."""

    none = "none"
    layer = "layer"  # each frame to mean 0 and variance 1, so that no layer counts more for being larger


@register("weighted_sum")
class WeightedSum(Aggregation):
    """Sum of the layers with one learned weight each, equal at first (SUPERB, arXiv 2105.01051).

    The weights are parameters of this plugin: they are trained whether or not the encoder is.
    """

    @dataclass(kw_only=True)
    class Config(Aggregation.Config):
        weights: Weights = Weights.softmax
        norm: LayerScale = LayerScale.none

    def __init__(self, cfg: Config, *, dim_in: int, layers: int) -> None:
        super().__init__()
        self.cfg, self.dim = cfg, dim_in
        start = 0.0 if cfg.weights is Weights.softmax else 1 / layers
        self.learned = nn.Parameter(torch.full((layers,), start))

    @property
    def weights(self) -> Tensor:
        """What each layer is multiplied by (L,): to be drawn. Large ones do not make a layer important."""
        return self.learned.softmax(0) if self.cfg.weights is Weights.softmax else self.learned

    def forward(self, layers: Sequence[Tensor]) -> Tensor:  # each (B, T, D) -> (B, T, D)
        pairs = zip(self.weights, layers, strict=True)
        return reduce(torch.add, (weight * self.scaled(layer.float()) for weight, layer in pairs))

    def scaled(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, x.shape[-1:]) if self.cfg.norm is LayerScale.layer else x


preset("weighted_sum_norm", WeightedSum.Config(norm=LayerScale.layer))
preset("weighted_sum_free", WeightedSum.Config(weights=Weights.free))
