from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from research.contracts import Encoded, Encoder, Seq
from research.errors import HarkError
from research.nn.dropout import Dropout
from research.nn.ssd import Mixer
from research.nn.stack import skip_rows
from research.nn.subsampling import full_striding
from research.registry import preset, register


class Direction(Enum):
    """Which way a block reads."""

    forward = "forward"  # from the past: the encoder is causal
    both = "both"  # another mixer reads from the future, and both are added (arXiv 2405.12609, section 3.2)


class Block(nn.Module):
    """A norm, then a mixer for each direction, added to what they read."""

    def __init__(self, cfg: "Mamba2.Config") -> None:
        super().__init__()
        self.layer_drop = cfg.layer_drop
        self.norm, self.dropout = nn.RMSNorm(cfg.dim, eps=1e-5), Dropout(cfg.dropout)
        self.past = mixer(cfg)
        self.future = mixer(cfg) if cfg.direction is Direction.both else None

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, T, D)."""
        read = self.norm(x)
        y = self.past(read, valid)
        if self.future is not None:
            y = y + self.future(read.flip(1), valid.flip(1)).flip(1)
        y = x + self.dropout(y)
        return skip_rows(y, x, self.layer_drop) if self.training and self.layer_drop else y


def mixer(cfg: "Mamba2.Config") -> Mixer:
    """Make one; what it adds is scaled down so that the sum over all blocks starts near what goes in."""
    made = Mixer(
        cfg.dim, inner=cfg.expand * cfg.dim, head_dim=cfg.head_dim, state=cfg.state, kernel=cfg.kernel
    )
    with torch.no_grad():
        made.down.weight.mul_(cfg.depth**-0.5)
    return made


@register("mamba2")
class Mamba2(Encoder):
    """Mamba-2 blocks (arXiv 2405.21060) behind full convolutions that subsample by 4; a last norm follows them.

    Time and memory grow with the number of frames, not with its square.
    """

    example = (
        "encoder.dim=32",
        "encoder.depth=2",
        "encoder.head_dim=16",
        "encoder.state=16",
        "encoder.channels=32",
    )

    @dataclass(kw_only=True)
    class Config(Encoder.Config):
        dim: int = 768  # D
        depth: int = 12  # blocks
        direction: Direction = Direction.both
        expand: int = 2  # width inside a mixer, times dim
        head_dim: int = 64  # channels of a head
        state: int = 128  # numbers that each channel of a head remembers
        kernel: int = 4  # frames of the convolution before the recurrence, all of the past
        stride: int = 4  # frontend frames per encoder frame: 2, 4 or 8
        channels: int = 256  # of the subsampling convolutions
        dropout: float = 0.1  # on what each block adds
        layer_drop: float = 0.0  # chance that a row skips a block
        checkpoint_layers: bool = field(default=False, metadata={"volatile": True})  # recompute activations

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        refuse(cfg)
        self.cfg, self.dim, self.depth, self.stride = cfg, cfg.dim, cfg.depth, cfg.stride
        self.ahead = 0 if cfg.direction is Direction.forward else None
        self.subsampling = full_striding(dim_in, cfg.channels, cfg.dim, cfg.stride)
        self.layers = nn.ModuleList(Block(cfg) for _ in range(cfg.depth))
        self.norm = nn.RMSNorm(cfg.dim, eps=1e-5)

    def embed(self, feats: Seq) -> Seq:  # (B, S, F) -> (B, T, D)
        embedded: Seq = self.subsampling(feats)
        return embedded

    def context(self, x: Seq, layers: Sequence[int] = ()) -> Encoded:
        y, valid = x.x.float(), x.valid  # the residual stream is fp32 under any autocast
        states = [y]
        for layer in self.layers:
            y = self.run(layer, y, valid)
            states.append(y)
        states[-1] = self.norm(states[-1])
        return Encoded(x.replace(states[-1]), [states[depth] for depth in layers])

    def run(self, layer: nn.Module, x: Tensor, valid: Tensor) -> Tensor:
        if not (self.cfg.checkpoint_layers and torch.is_grad_enabled()):
            return layer(x, valid)
        return checkpoint(layer, x, valid, use_reentrant=False)


def refuse(cfg: Mamba2.Config) -> None:
    """Raise HarkError for settings that no encoder can have."""
    for key in ("dim", "depth", "expand", "head_dim", "state", "kernel", "channels"):
        if getattr(cfg, key) < 1:
            raise HarkError(f"encoder.{key}={getattr(cfg, key)}: choose 1 or more")
    if cfg.expand * cfg.dim % cfg.head_dim:
        raise HarkError(
            f"encoder.head_dim={cfg.head_dim}: does not divide encoder.expand * encoder.dim = "
            f"{cfg.expand * cfg.dim}; choose a divisor"
        )
    if cfg.stride not in (2, 4, 8):
        raise HarkError(f"encoder.stride={cfg.stride}: choose 2, 4 or 8")
    for key in ("dropout", "layer_drop"):
        if not 0 <= getattr(cfg, key) < 1:
            raise HarkError(f"encoder.{key}={getattr(cfg, key)}: choose a share from 0 to below 1")


preset("mamba2_tiny", Mamba2.Config(dim=64, depth=2, head_dim=32, state=32, channels=64))
preset(
    "mamba2_tiny_causal",
    Mamba2.Config(dim=64, depth=2, head_dim=32, state=32, channels=64, direction=Direction.forward),
)
preset("mamba2_base", Mamba2.Config())
# Blocks of the paper's smallest language model (130 million parameters with its words)
preset("mamba2_base_causal", Mamba2.Config(depth=24, direction=Direction.forward))
