from dataclasses import dataclass

from research.nn.conformer import ConformerEncoder, ConvNorm
from research.nn.subsampling import full_striding
from research.registry import preset, register


@register("conformer")
class Conformer(ConformerEncoder):
    """Conformer behind full convolutions that subsample by 4 (arXiv 2005.08100)."""

    @dataclass(kw_only=True)
    class Config(ConformerEncoder.Config):
        depth: int = 18  # blocks
        kernel: int = 31
        stride: int = 4
        channels: int = 512

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg)
        self.subsampling = full_striding(dim_in, cfg.channels, cfg.dim, cfg.stride)


preset("conformer_tiny", Conformer.Config(dim=64, depth=2, heads=4, channels=64, kernel=15))
preset("conformer_large", Conformer.Config())

# Encoders of arXiv 2108.06209, section 4.2: 0.6 and 1.0 billion parameters
preset("w2v_bert_xl", Conformer.Config(dim=1024, depth=24, kernel=5, conv_norm=ConvNorm.layer))
preset("w2v_bert_xxl", Conformer.Config(dim=1024, depth=42, kernel=5, conv_norm=ConvNorm.layer))
