"""The Conformer stack (arXiv 2005.08100), without the subsampling in front of it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from research.contracts import Encoded, Encoder, Seq
from research.errors import HarkError
from research.nn.attention import (
    ATTENTION,
    Attention,
    Layout,
    Positions,
    Window,
    last_seen,
    lay_out,
    refuse_context,
)
from research.nn.causal import Convolutions, furthest
from research.nn.dropout import Dropout
from research.nn.norm import BatchNorm, GroupNorm, LayerNorm, recomputing, update_running


class ConvNorm(Enum):
    """The norm inside the convolution module."""

    batch = "batch"
    layer = "layer"
    group = "group"


class FeedForward(nn.Module):
    def __init__(self, dim: int, inner: int, *, bias: bool, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, inner, bias=bias)
        self.down = nn.Linear(inner, dim, bias=bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, D) -> (B, T, D)
        return self.down(self.dropout(F.silu(self.up(self.norm(x)))))


class Convolution(nn.Module):
    def __init__(self, cfg: "ConformerEncoder.Config") -> None:
        super().__init__()
        self.norm = nn.LayerNorm(cfg.dim)
        self.gate = nn.Linear(cfg.dim, 2 * cfg.dim, bias=cfg.bias)
        padding = (0, cfg.convolutions.padding(cfg.kernel))
        self.depthwise = nn.Conv2d(
            cfg.dim, cfg.dim, (1, cfg.kernel), padding=padding, groups=cfg.dim, bias=cfg.bias
        )
        self.inner_norm = conv_norm(cfg)
        self.out = nn.Linear(cfg.dim, cfg.dim, bias=cfg.bias)

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
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.layer_drop  # (B, 1, 1)
        return x + (y - x) * (kept / (1 - self.layer_drop))


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


class ConformerEncoder(Encoder):
    """Conformer blocks; subclasses set `subsampling`, a module Seq (B, S, F) -> Seq (B, T, D).

    Subsampling reads nothing after the `stride` frames that become one: what is heard ahead, the blocks hear.
    """

    example = ("encoder.dim=64", "encoder.depth=2", "encoder.heads=4", "encoder.channels=32")
    subsampling: nn.Module

    @dataclass(kw_only=True)
    class Config(Encoder.Config):
        dim: int = 512
        depth: int = 17
        heads: int = 8
        kernel: int = 9  # frames of the depthwise convolution
        ff_mult: int = 4
        stride: int = 8  # frontend frames per encoder frame: 2, 4 or 8
        channels: int = 256  # of the subsampling convolutions
        positions: Positions = Positions.rel_pos
        context: tuple[int, int] = (-1, -1)  # frames that attention sees to the left and right; -1: all
        window: Window = Window.sliding
        convolutions: Convolutions = Convolutions.centred  # those in the blocks
        bias: bool = True  # in feed-forward, attention and convolution modules
        xscaling: bool = True  # multiply what the first block reads by sqrt(dim)
        conv_norm: ConvNorm = ConvNorm.batch
        groups: int = 8  # of conv_norm=group
        dropout: float = 0.1
        dropout_pre: float = 0.1  # on what the first block reads
        dropout_att: float = 0.1  # on attention weights
        dropout_emb: float = 0.0  # on the table of relative positions
        layer_drop: float = 0.0  # chance that the last block is skipped; grows linearly from 0 at the first
        checkpoint_layers: bool = field(default=False, metadata={"volatile": True})  # recompute activations

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        refuse(cfg)
        self.cfg, self.dim, self.depth, self.stride = cfg, cfg.dim, cfg.depth, cfg.stride
        self.ahead = ahead(cfg)
        self.dropout_pre, self.dropout_emb = Dropout(cfg.dropout_pre), Dropout(cfg.dropout_emb)
        drops = [cfg.layer_drop * i / max(1, cfg.depth - 1) for i in range(cfg.depth)]
        self.layers = nn.ModuleList(block(cfg, drop) for drop in drops)

    def embed(self, feats: Seq) -> Seq:  # (B, S, F) -> (B, T, D)
        embedded: Seq = self.subsampling(feats)
        return embedded

    def context(self, x: Seq, layers: Sequence[int] = ()) -> Encoded:
        cfg, valid = self.cfg, x.valid
        layout = lay_out(x, *cfg.context, cfg.positions, cfg.heads, window=cfg.window)
        if cfg.positions is Positions.rel_pos:
            layout.table = self.dropout_emb(layout.table)
        y = x.x.float()  # the residual stream is fp32 under any autocast
        y = self.dropout_pre(y * cfg.dim**0.5 if cfg.xscaling else y)
        states = [y]
        for layer in self.layers:
            y = self.run(layer, y, valid, layout)
            states.append(y)
        return Encoded(x.replace(y), [states[depth] for depth in layers])

    def run(self, layer: nn.Module, x: Tensor, valid: Tensor, layout: Layout) -> Tensor:
        if not (self.cfg.checkpoint_layers and torch.is_grad_enabled()):
            return layer(x, valid, layout)
        return checkpoint(layer, x, valid, layout, use_reentrant=False, context_fn=first_and_again)

    def on_step_end(self, step: int) -> None:
        update_running([module for module in self.modules() if isinstance(module, BatchNorm)])


def first_and_again() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Give the surroundings of a checkpointed forward and of its repetition."""
    return nullcontext(), recomputing()


def ahead(cfg: ConformerEncoder.Config) -> int | None:
    """How many frames the encoder hears ahead; None: all, for attention or a norm over time sees them."""
    right = cfg.context[1]
    if right < 0 or cfg.conv_norm is ConvNorm.group:
        return None
    taps = cfg.convolutions.ahead(cfg.kernel)
    return furthest(lambda frame: last_seen(frame + taps, right, cfg.window), cfg.depth, right + 1)


def refuse(cfg: ConformerEncoder.Config) -> None:
    """Raise HarkError for settings that no encoder can have."""
    head = cfg.dim // cfg.heads
    if cfg.dim % cfg.heads:
        raise HarkError(f"encoder.heads={cfg.heads}: does not divide encoder.dim={cfg.dim}; choose a divisor")
    if cfg.positions is Positions.rope and head % 2:
        raise HarkError(
            f"encoder.heads={cfg.heads}: rope turns pairs, and heads of {head} are odd; choose others"
        )
    if cfg.kernel % 2 == 0:
        raise HarkError(f"encoder.kernel={cfg.kernel}: must be odd, to reach as far left as right")
    if cfg.stride not in (2, 4, 8):
        raise HarkError(f"encoder.stride={cfg.stride}: choose 2, 4 or 8")
    refuse_context(cfg.context, cfg.window)
    if cfg.conv_norm is ConvNorm.group and cfg.dim % cfg.groups:
        raise HarkError(
            f"encoder.groups={cfg.groups}: does not divide encoder.dim={cfg.dim}; choose a divisor"
        )
    for key in ("dropout", "dropout_pre", "dropout_att", "dropout_emb", "layer_drop"):
        if not 0 <= getattr(cfg, key) < 1:
            raise HarkError(f"encoder.{key}={getattr(cfg, key)}: choose a share from 0 to below 1")
