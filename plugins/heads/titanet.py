from dataclasses import dataclass, field

from torch import nn

from research.contracts import Seq
from research.downstream import Head
from research.errors import HarkError
from research.nn.norm import BatchNorm, update_running
from research.nn.pooling import Embedding
from research.nn.separable import Activation, Block, ResidualBlock
from research.registry import preset, register


@register("titanet")
class TitaNet(Head):
    """Separable convolutions with squeeze-and-excitation, attentive statistics with context (arXiv 2110.04410).

    The defaults are TitaNet-S: 256 channels, blocks of 3 convolutions, dropout 0.1.
    """

    example = ("head.channels=32", "head.wide=48", "head.attention=8", "head.dim=16")

    @dataclass(kw_only=True)
    class Config(Head.Config):
        channels: int = 256  # of the convolutions
        wide: int = 3072  # of the last block
        first: int = 3  # kernel of the first block
        kernels: list[int] = field(default_factory=lambda: [7, 11, 15])  # of the residual blocks
        repeat: int = 3  # convolutions in a residual block
        dropout: float = 0.1  # after each of them
        attention: int = 128  # hidden size of the pooling
        dim: int = 192  # of the vector

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        if any(kernel % 2 == 0 for kernel in (cfg.first, *cfg.kernels)):
            raise HarkError(
                f"head.first={cfg.first}, head.kernels={cfg.kernels}: must be odd, to reach as far left as right"
            )
        self.dim = cfg.dim
        relu = Activation.relu
        self.blocks = nn.ModuleList(
            [
                Block(dim_in, cfg.channels, cfg.first, relu),
                *(
                    ResidualBlock(cfg.channels, kernel, relu, repeat=cfg.repeat, dropout=cfg.dropout)
                    for kernel in cfg.kernels
                ),
                Block(cfg.channels, cfg.wide, 1, relu),
            ]
        )
        self.embedding = Embedding(cfg.wide, cfg.attention, cfg.dim)

    def forward(self, x: Seq) -> Seq:
        y, valid = x.x, x.valid
        for block in self.blocks:
            y = block(y, valid)  # (B, T, channels), at last (B, T, wide)
        embedded: Seq = self.embedding(x.replace(y), valid)  # (B, 1, E)
        return embedded

    def on_step_end(self, step: int) -> None:
        update_running([module for module in self.modules() if isinstance(module, BatchNorm)])


preset("titanet_medium", TitaNet.Config(channels=512))
preset("titanet_large", TitaNet.Config(channels=1024))
