"""An encoder of attention blocks behind a subsampling: what conformers and branchformers share."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.utils.checkpoint import checkpoint

from research.contracts import Encoded, Encoder, Seq
from research.errors import HarkError
from research.nn.attention import Layout, Positions, Window, lay_out, refuse_context
from research.nn.causal import Convolutions, furthest
from research.nn.dropout import Dropout
from research.nn.norm import BatchNorm, recomputing, update_running


class Stack(Encoder):
    """Blocks over time, each called with (B, T, D), bool (B, T) and a Layout; subclasses make them.

    Subclasses set `subsampling`, a module Seq (B, S, F) -> Seq (B, T, D). It reads nothing after the `stride` frames
    that become one: what is heard ahead, the blocks hear.
    """

    example = ("encoder.dim=64", "encoder.depth=2", "encoder.heads=4", "encoder.channels=32")
    subsampling: nn.Module

    @dataclass(kw_only=True)
    class Config(Encoder.Config):
        dim: int = 512  # D
        depth: int = 17  # blocks
        heads: int = 8  # of the attention
        kernel: int = 9  # frames of the depthwise convolution
        stride: int = 8  # frontend frames per encoder frame: 2, 4 or 8
        channels: int = 256  # of the subsampling convolutions
        positions: Positions = Positions.rel_pos
        context: tuple[int, int] = (-1, -1)  # frames that attention sees to the left and right; -1: all
        window: Window = Window.sliding
        convolutions: Convolutions = Convolutions.centred  # those in the blocks
        xscaling: bool = True  # multiply what the first block reads by sqrt(dim)
        dropout: float = 0.1  # of what feed-forwards, attention and convolutions give
        dropout_pre: float = 0.1  # on what the first block reads
        dropout_att: float = 0.1  # on attention weights
        dropout_emb: float = 0.0  # on the table of relative positions
        layer_drop: float = 0.0  # chance that the last block is skipped; grows linearly from 0 at the first
        checkpoint_layers: bool = field(default=False, metadata={"volatile": True})  # recompute activations

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        refuse(cfg)
        self.cfg, self.dim, self.depth, self.stride = cfg, cfg.dim, cfg.depth, cfg.stride
        right = cfg.context[1]
        self.ahead = None if right < 0 else furthest(self.last_read, cfg.depth, right + 1)
        self.dropout_pre, self.dropout_emb = Dropout(cfg.dropout_pre), Dropout(cfg.dropout_emb)
        drops = [cfg.layer_drop * i / max(1, cfg.depth - 1) for i in range(cfg.depth)]
        self.layers = nn.ModuleList(self.block(drop) for drop in drops)

    def block(self, layer_drop: float) -> nn.Module:
        """Make one block."""
        raise NotImplementedError

    def last_read(self, frame: int) -> int:
        """Give the last frame that a block reads to give a frame, where the context ends."""
        raise NotImplementedError

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


# Blocks would be compiled for every chance. torch.compiler.disable says the same, but imports all of the compiler at once
@_disable_dynamo
def skip_rows(y: Tensor, x: Tensor, chance: float) -> Tensor:
    """Put what a block read (B, T, D) in place of what it gave, row by row; the mean stays."""
    kept = torch.rand(len(x), 1, 1, device=x.device) >= chance  # (B, 1, 1)
    return x + (y - x) * (kept / (1 - chance))


def refuse(cfg: Stack.Config) -> None:
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
    for key in ("dropout", "dropout_pre", "dropout_att", "dropout_emb", "layer_drop"):
        if not 0 <= getattr(cfg, key) < 1:
            raise HarkError(f"encoder.{key}={getattr(cfg, key)}: choose a share from 0 to below 1")
