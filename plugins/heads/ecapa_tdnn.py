from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import nn

from research.contracts import Seq
from research.downstream import Head
from research.errors import HarkError
from research.nn.norm import BatchNorm, update_running
from research.nn.pooling import Embedding
from research.nn.tdnn import TDNN, SERes2
from research.registry import preset, register


class Reads(Enum):
    """What a block reads."""

    all = "all"  # the sum of everything before it, as the paper
    last = "last"  # the block before it


@register("ecapa_tdnn")
class ECAPA(Head):
    """SE-Res2 blocks, their outputs side by side, attentive statistics with context (arXiv 2005.07143)."""

    example = (
        "head.channels=16",
        "head.wide=24",
        "head.scale=4",
        "head.squeeze=8",
        "head.attention=8",
        "head.dim=16",
    )

    @dataclass(kw_only=True)
    class Config(Head.Config):
        channels: int = 512  # of the first layer and of the blocks; the paper's other model has 1024
        wide: int = 1536  # of the layer that reads all blocks
        kernels: list[int] = field(
            default_factory=lambda: [5, 3, 3, 3]
        )  # of the first layer and of each block
        dilations: list[int] = field(default_factory=lambda: [1, 2, 3, 4])  # of the convolutions, in frames
        scale: int = 8  # groups of channels in a block
        squeeze: int = 128  # hidden size of squeeze-and-excitation
        attention: int = 128  # hidden size of the pooling
        dim: int = 192  # of the vector
        reads: Reads = Reads.all

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        refuse(cfg)
        self.cfg, self.dim = cfg, cfg.dim
        (first, *kernels), (wait, *dilations) = cfg.kernels, cfg.dilations
        self.front = TDNN(dim_in, cfg.channels, first, wait)
        self.blocks = nn.ModuleList(
            SERes2(cfg.channels, kernel, dilation, cfg.scale, cfg.squeeze)
            for kernel, dilation in zip(kernels, dilations, strict=True)
        )
        self.join = TDNN(cfg.channels * len(kernels), cfg.wide)
        self.embedding = Embedding(cfg.wide, cfg.attention, cfg.dim)

    def forward(self, x: Seq) -> Seq:
        valid = x.valid
        outs = [self.front(x.x, valid)]  # each (B, T, channels)
        for block in self.blocks:
            read = outs if self.cfg.reads is Reads.all else outs[-1:]
            outs.append(block(torch.stack(read).sum(0), valid))
        joined = self.join(torch.cat(outs[1:], -1), valid)  # (B, T, wide)
        embedded: Seq = self.embedding(x.replace(joined), valid)  # (B, 1, E)
        return embedded

    def on_step_end(self, step: int) -> None:
        update_running([module for module in self.modules() if isinstance(module, BatchNorm)])


def refuse(cfg: ECAPA.Config) -> None:
    """Raise HarkError for settings that no head can have."""
    if cfg.channels % cfg.scale or cfg.scale < 2:
        raise HarkError(
            f"head.scale={cfg.scale}: choose a divisor of head.channels={cfg.channels}, 2 or more"
        )
    if len(cfg.kernels) != len(cfg.dilations) or len(cfg.kernels) < 2:
        raise HarkError(
            f"head.kernels={cfg.kernels}, head.dilations={cfg.dilations}: give as many of the one as of the other, 2 or more"
        )
    if any(kernel % 2 == 0 for kernel in cfg.kernels):
        raise HarkError(f"head.kernels={cfg.kernels}: must be odd, to reach as far left as right")


preset("ecapa_tdnn_large", ECAPA.Config(channels=1024))
preset("ecapa_tdnn_nemo", ECAPA.Config(dilations=[1, 1, 1, 1], reads=Reads.last))
