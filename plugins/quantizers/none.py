from dataclasses import dataclass

from research.contracts import Quantizer
from research.errors import HarkError
from research.registry import register


@register("none")
class NoQuantizer(Quantizer):
    """For objectives that quantize nothing; one that does refuses it."""

    @dataclass(kw_only=True)
    class Config(Quantizer.Config):
        pass

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        raise HarkError(
            "quantizer=none: this objective needs one; type quantizer=random_projection, for example"
        )
