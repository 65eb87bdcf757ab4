"""The Conformer stack (arXiv 2005.08100), without the subsampling in front of it."""

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.errors import HarkError
from research.nn.attention import ATTENTION, Attention, Layout, last_seen
from research.nn.dropout import Dropout
from research.nn.linear import Linear
from research.nn.norm import BatchNorm, GroupNorm, LayerNorm
from research.nn.stack import Stack, skip_rows
from research.nn.swish import SwishLinear


class ConvNorm(Enum):
    """The norm inside the convolution module."""

    batch = "batch"
    layer = "layer"
    group = "group"


class FeedForward(nn.Module):
    def __init__(self, dim: int, inner: int, *, bias: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = Linear(dim, inner, bias=bias)
        self.down = SwishLinear(inner, dim, bias=bias, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        return self.down(self.up(self.norm(x)))


class Convolution(nn.Module):
    def __init__(self, cfg: "ConformerEncoder.Config") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cfg.dim)
        self.gate = Linear(cfg.dim, 2 * cfg.dim, bias=cfg.bias)
        padding = (0, cfg.convolutions.padding(cfg.kernel))
        self.depthwise = nn.Conv2d(
            cfg.dim, cfg.dim, (1, cfg.kernel), padding=padding, groups=cfg.dim, bias=cfg.bias
        )
        self.inner_norm = conv_norm(cfg)
        self.out = Linear(cfg.dim, cfg.dim, bias=cfg.bias)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, T, D)."""
        x = F.glu(self.gate(self.norm(x))) * valid[..., None]
        x = x.transpose(1, 2)[:, :, None]  # (B, D, 1, T): a view that is channels-last
        x = self.depthwise(x)[:, :, 0, : x.size(3)].transpose(1, 2)  # (B, T, D)
        return self.out(F.silu(self.inner_norm(x, valid)))


def conv_norm(cfg: "ConformerEncoder.Config") -> nn.Module:
    match cfg.conv_norm:
        case ConvNorm.batch:
            return BatchNorm(cfg.dim)
        case ConvNorm.layer:
            return LayerNorm(cfg.dim)
        case ConvNorm.group:
            return GroupNorm(cfg.dim, cfg.groups)


class Block(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, norm."""

    def __init__(
        self,
        ff1: FeedForward,
        attention: Attention,
        convolution: nn.Module,
        ff2: FeedForward,
        *,
        dim: int,
        dropout: float,
        layer_drop: float,
    ) -> None:
        super().__init__()
        self.layer_drop = layer_drop
        self.ff1 = ff1
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = attention
        self.convolution = convolution  # (B, T, D), bool (B, T) -> (B, T, D)
        self.ff2 = ff2
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor, layout: Layout) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, T, D)."""
        y = torch.add(x, self.dropout(self.ff1(x)), alpha=0.5)
        y = y + self.dropout(self.attention(self.attention_norm(y), layout))
        y = y + self.dropout(self.convolution(y, valid))
        y = self.norm(torch.add(y, self.dropout(self.ff2(y)), alpha=0.5))
        if not self.training or self.layer_drop == 0:
            return y
        return skip_rows(y, x, self.layer_drop)


def block(cfg: "ConformerEncoder.Config", layer_drop: float) -> Block:
    def feed_forward() -> FeedForward:
        return FeedForward(cfg.dim, cfg.ff_mult * cfg.dim, bias=cfg.bias, dropout=cfg.dropout)

    return Block(
        feed_forward(),
        ATTENTION[cfg.positions](cfg.dim, cfg.heads, bias=cfg.bias, dropout=cfg.dropout_att),
        Convolution(cfg),
        feed_forward(),
        dim=cfg.dim,
        dropout=cfg.dropout,
        layer_drop=layer_drop,
    )


class ConformerEncoder(Stack):
    """Conformer blocks; subclasses set `subsampling`."""

    @dataclass(kw_only=True)
    class Config(Stack.Config):
        ff_mult: int = 4  # inner width of the feed-forwards over `dim`
        bias: bool = True  # in feed-forward, attention and convolution modules
        conv_norm: ConvNorm = ConvNorm.batch
        groups: int = 8  # of conv_norm=group

    cfg: Config

    def __init__(self, cfg: Config) -> None:
        if cfg.conv_norm is ConvNorm.group and cfg.dim % cfg.groups:
            raise HarkError(
                f"encoder.groups={cfg.groups}: does not divide encoder.dim={cfg.dim}; choose a divisor"
            )
        super().__init__(cfg)
        if cfg.conv_norm is ConvNorm.group:
            self.ahead = None  # its statistics are those of all frames

    def block(self, layer_drop: float) -> Block:
        return block(self.cfg, layer_drop)

    def last_read(self, frame: int) -> int:
        taps = self.cfg.convolutions.ahead(self.cfg.kernel)
        return last_seen(frame + taps, self.cfg.context[1], self.cfg.window)
