from dataclasses import dataclass

from research.nn.attention import Window
from research.nn.causal import Convolutions
from research.nn.conformer import ConformerEncoder
from research.nn.subsampling import depthwise_striding
from research.registry import preset, register


@register("fastconformer")
class FastConformer(ConformerEncoder):
    """Conformer behind a depthwise-separable subsampling by 8 (arXiv 2305.05084)."""

    @dataclass(kw_only=True)
    class Config(ConformerEncoder.Config):
        pass

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg)
        self.subsampling = depthwise_striding(dim_in, cfg.channels, cfg.dim, cfg.stride)


preset("fastconformer_tiny", FastConformer.Config(dim=64, depth=2, heads=4, channels=32))
preset("fastconformer_small", FastConformer.Config(dim=176, depth=16, heads=4))
preset("fastconformer_medium", FastConformer.Config(dim=256, depth=16, heads=4))
preset("fastconformer_large", FastConformer.Config(dim=512, depth=17))
preset("fastconformer_large18", FastConformer.Config(dim=512, depth=18))
preset("fastconformer_xlarge", FastConformer.Config(dim=1024, depth=24, bias=False, xscaling=False))
preset(
    "fastconformer_xxlarge", FastConformer.Config(dim=1024, depth=42, kernel=5, bias=False, xscaling=False)
)

# Streaming, as the cache-aware models of arXiv 2312.17279: nothing ahead, or chunks of 14 frames (1.12 s)
preset(
    "fastconformer_tiny_causal",
    FastConformer.Config(
        dim=64, depth=2, heads=4, channels=32, context=(-1, 0), convolutions=Convolutions.causal
    ),
)
preset(
    "fastconformer_large_chunked",
    FastConformer.Config(dim=512, context=(70, 13), window=Window.chunked, convolutions=Convolutions.causal),
)
