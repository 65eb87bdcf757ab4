from dataclasses import dataclass

from research.nn.conformer import ConformerEncoder
from research.nn.subsampling import full_striding
from research.registry import preset, register


@register("conformer")
class Conformer(ConformerEncoder):
    """Conformer behind full convolutions that subsample by 4 (arXiv 2005.08100)."""

    @dataclass(kw_only=True)
    class Config(ConformerEncoder.Config):
        depth: int = 18
        kernel: int = 31
        stride: int = 4
        channels: int = 512

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg)
        self.subsampling = full_striding(dim_in, cfg.channels, cfg.dim, cfg.stride)


preset("conformer_tiny", Conformer.Config(dim=64, depth=2, heads=4, channels=64, kernel=15))
preset("conformer_large", Conformer.Config())
