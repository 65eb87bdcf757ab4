from dataclasses import dataclass

from research.errors import HarkError
from research.nn.clusters import Clusters
from research.registry import register


@register("ema")
class EMA(Clusters):
    """Codes that are moving averages of their inputs: online clusters (DinoSR, arXiv 2305.10005, eq. 3 to 5).

    So does VQ-VAE without a gradient to its codebook (arXiv 1711.00937, appendix A.1). Sum s and number n of a code's
    inputs move to `decay` * old + (1 - `decay`) * this step's, and the code is s / n. Unlike DinoSR's, codes begin at
    inputs, for random numbers may be so far from them that all inputs have one code for ever. As there nothing
    brings dead codes back: one without inputs stays in its place, weighing less from step to step, until the
    first input that it gets takes it along.
    """

    example = ("quantizer.codes=16",)

    @dataclass(kw_only=True)
    class Config(Clusters.Config):
        codes: int = 256  # V
        decay: float = 0.9  # share of a code's average that a step keeps

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg.codes, dim_in, cfg.decay)
        if not 0 <= cfg.decay < 1:
            raise HarkError(f"quantizer.decay={cfg.decay}: choose a share from 0 to below 1")
