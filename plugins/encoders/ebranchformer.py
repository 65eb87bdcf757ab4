from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.errors import HarkError
from research.nn.attention import ATTENTION, Layout, last_seen
from research.nn.causal import Depthwise
from research.nn.conformer import FeedForward
from research.nn.dropout import Dropout
from research.nn.linear import Linear
from research.nn.stack import Stack, skip_rows
from research.nn.subsampling import full_striding
from research.registry import preset, register


class GatedMLP(nn.Module):
    """A feed-forward of which one half, convolved over time, gates the other (cgMLP, arXiv 2207.02971, section 3.3)."""

    def __init__(self, cfg: "EBranchformer.Config") -> None:
        super().__init__()
        half = cfg.gate_dim // 2
        self.norm, self.inner_norm = nn.LayerNorm(cfg.dim), nn.LayerNorm(half)
        self.up, self.down = Linear(cfg.dim, cfg.gate_dim), Linear(half, cfg.dim)
        self.depthwise = Depthwise(half, cfg.kernel, cfg.convolutions)
        nn.init.normal_(self.depthwise.weight, std=1e-6)  # at first the gate lets everything through
        nn.init.constant_(self.depthwise.bias, 1.0)  # type: ignore[arg-type]
        self.dropout = Dropout(cfg.dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, T, D)."""
        kept, gate = F.gelu(self.up(self.norm(x))).chunk(2, dim=-1)  # (B, T, gate_dim / 2) each
        gate = self.depthwise(self.inner_norm(gate) * valid[..., None])
        return self.down(self.dropout(kept * gate))


class Block(nn.Module):
    """Half a feed-forward, attention beside a gated MLP, their merge, half a feed-forward, norm."""

    def __init__(self, cfg: "EBranchformer.Config", layer_drop: float) -> None:
        super().__init__()
        self.layer_drop = layer_drop
        self.ff1, self.ff2 = (
            FeedForward(cfg.dim, cfg.ff_dim, bias=True, dropout=cfg.dropout) for _ in range(2)
        )
        self.attention_norm = nn.LayerNorm(cfg.dim)
        self.attention = ATTENTION[cfg.positions](cfg.dim, cfg.heads, bias=True, dropout=cfg.dropout_att)
        self.gated = GatedMLP(cfg)
        self.merge_conv = Depthwise(2 * cfg.dim, cfg.merge_kernel, cfg.convolutions)
        self.merge = Linear(2 * cfg.dim, cfg.dim)
        self.norm = nn.LayerNorm(cfg.dim)
        self.dropout = Dropout(cfg.dropout)

    def forward(self, x: Tensor, valid: Tensor, layout: Layout) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, T, D)."""
        y = torch.add(x, self.dropout(self.ff1(x)), alpha=0.5)
        wide = self.dropout(self.attention(self.attention_norm(y), layout))
        near = self.dropout(self.gated(y, valid))
        both = torch.cat([wide, near], dim=-1) * valid[..., None]  # (B, T, 2 D)
        y = y + self.dropout(self.merge(both + self.merge_conv(both)))
        y = self.norm(torch.add(y, self.dropout(self.ff2(y)), alpha=0.5))
        return skip_rows(y, x, self.layer_drop) if self.training and self.layer_drop else y


@register("ebranchformer")
class EBranchformer(Stack):
    """E-Branchformer behind full convolutions that subsample by 4 (arXiv 2210.00077, sections 3.1 and 3.2).

    Its merge is the one that the paper chose: a depthwise convolution over both branches, added to them.
    """

    @dataclass(kw_only=True)
    class Config(Stack.Config):
        stride: int = 4
        channels: int = 512
        kernel: int = 31
        merge_kernel: int = 31  # frames of the convolution that merges the branches
        ff_dim: int = 1024  # inside the feed-forwards
        gate_dim: int = 3072  # inside the gated MLP; half of it are gates

    cfg: Config

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        if cfg.merge_kernel % 2 == 0:
            raise HarkError(
                f"encoder.merge_kernel={cfg.merge_kernel}: must be odd, to reach as far left as right"
            )
        if cfg.gate_dim % 2 or cfg.gate_dim < 2:
            raise HarkError(f"encoder.gate_dim={cfg.gate_dim}: half of it are gates; choose an even number")
        super().__init__(cfg)
        self.subsampling = full_striding(dim_in, cfg.channels, cfg.dim, cfg.stride)

    def block(self, layer_drop: float) -> Block:
        return Block(self.cfg, layer_drop)

    def last_read(self, frame: int) -> int:
        reads = self.cfg.convolutions
        merged = frame + reads.ahead(self.cfg.merge_kernel)
        attended = last_seen(merged, self.cfg.context[1], self.cfg.window)
        return max(attended, merged + reads.ahead(self.cfg.kernel))


preset(
    "ebranchformer_tiny",
    EBranchformer.Config(
        dim=64, depth=2, heads=4, channels=64, kernel=15, merge_kernel=15, ff_dim=128, gate_dim=192
    ),
)
preset(
    "ebranchformer_small",
    EBranchformer.Config(dim=256, depth=12, heads=4, channels=256, ff_dim=1024, gate_dim=1024),
)
preset("ebranchformer_large", EBranchformer.Config())  # the paper's, 17 layers
