from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from research.downstream import Aggregation
from research.errors import HarkError
from research.registry import preset, register


@register("single")
class Single(Aggregation):
    """One layer, by its place among those that the encoder is asked for."""

    @dataclass(kw_only=True)
    class Config(Aggregation.Config):
        layer: int = -1  # negative ones count from the last

    def __init__(self, cfg: Config, *, dim_in: int, layers: int) -> None:
        super().__init__()
        if not -layers <= cfg.layer < layers:
            raise HarkError(
                f"aggregation.layer={cfg.layer}: there are {layers} layers; choose 0 to {layers - 1}, or -1 for the last"
            )
        self.dim, self.layer = dim_in, cfg.layer

    def forward(self, layers: Sequence[Tensor]) -> Tensor:  # each (B, T, D) -> (B, T, D)
        return layers[self.layer]


preset("last", Single.Config())
