from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from research.contracts import Encoded, Encoder, Seq
from research.errors import HarkError
from research.nn.attention import Layout, Positions, lay_out
from research.nn.conformer import Block, FeedForward
from research.nn.dropout import Dropout
from research.nn.linear import Linear
from research.nn.shaw import ShawAttention
from research.registry import preset, register


class CausalConvolution(nn.Module):
    """Gated depthwise convolution over the past, a layer norm inside, no bias. What follows a row cannot reach it."""

    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate = Linear(dim, 2 * dim, bias=False)
        self.depthwise = nn.Conv2d(dim, dim, (1, kernel), groups=dim, bias=False)
        self.inner_norm = nn.LayerNorm(dim)
        self.out = Linear(dim, dim, bias=False)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """(B, T, D), bool (B, T) -> (B, T, D)."""
        x = F.glu(self.gate(self.norm(x)))
        x = F.pad(x, (0, 0, self.depthwise.kernel_size[1] - 1, 0))  # (B, T + kernel - 1, D)
        x = self.depthwise(x.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)  # (B, T, D)
        return self.out(F.silu(self.inner_norm(x)))


@register("w2v_bert_conformer")
class W2vBertConformer(Encoder):
    """The encoder of w2v-BERT 2.0 (arXiv 2312.05187, section 3.2.1): conformer without subsampling, causal convolutions.

    It reads `frontend=fbank`, at 20 ms. Attention is whole; distances beyond `left` and `right` are one.
    """

    example = (
        "frontend=fbank",
        "encoder.dim=32",
        "encoder.ff_dim=64",
        "encoder.depth=2",
        "encoder.heads=2",
        "encoder.kernel=7",
    )
    stride = 1

    @dataclass(kw_only=True)
    class Config(Encoder.Config):
        dim: int = 1024  # D
        depth: int = 24  # blocks
        heads: int = 16  # of the attention
        kernel: int = 31  # frames of the depthwise convolution
        ff_dim: int = 4096  # inside the feed-forwards
        left: int = 64  # frames back that attention tells apart
        right: int = 8  # frames ahead
        dropout: float = 0.0  # of what feed-forwards and attention give
        dropout_pre: float = 0.0  # on what the first block reads
        dropout_att: float = 0.0  # on attention weights
        layer_drop: float = 0.1  # chance that a row skips a block
        checkpoint_layers: bool = field(default=False, metadata={"volatile": True})  # recompute activations

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        refuse(cfg)
        self.cfg, self.dim, self.depth = cfg, cfg.dim, cfg.depth
        self.norm_in = nn.LayerNorm(dim_in)
        self.project = Linear(dim_in, cfg.dim)
        self.dropout_pre = Dropout(cfg.dropout_pre)
        self.layers = nn.ModuleList(block(cfg) for _ in range(cfg.depth))

    def embed(self, feats: Seq) -> Seq:
        return feats.replace(self.project(self.norm_in(feats.x)))  # (B, T, D)

    def context(self, x: Seq, layers: Sequence[int] = ()) -> Encoded:
        layout, valid = lay_out(x, -1, -1, Positions.none, self.cfg.heads), x.valid
        y = self.dropout_pre(x.x.float())  # the residual stream is fp32 under any autocast
        states = [y]
        for layer in self.layers:
            y = self.run(layer, y, valid, layout)
            states.append(y)
        return Encoded(x.replace(y), [states[depth] for depth in layers])

    def run(self, layer: nn.Module, x: Tensor, valid: Tensor, layout: Layout) -> Tensor:
        if not (self.cfg.checkpoint_layers and torch.is_grad_enabled()):
            return layer(x, valid, layout)
        return checkpoint(layer, x, valid, layout, use_reentrant=False)


def block(cfg: W2vBertConformer.Config) -> Block:
    def feed_forward() -> FeedForward:
        return FeedForward(cfg.dim, cfg.ff_dim, bias=True, dropout=cfg.dropout)

    reach = (cfg.left, cfg.right)
    return Block(
        feed_forward(),
        ShawAttention(cfg.dim, cfg.heads, reach=reach, bias=True, dropout=cfg.dropout_att),
        CausalConvolution(cfg.dim, cfg.kernel),
        feed_forward(),
        dim=cfg.dim,
        dropout=cfg.dropout,
        layer_drop=cfg.layer_drop,
    )


def refuse(cfg: W2vBertConformer.Config) -> None:
    """Raise HarkError for settings that no encoder can have."""
    if cfg.dim % cfg.heads:
        raise HarkError(f"encoder.heads={cfg.heads}: does not divide encoder.dim={cfg.dim}; choose a divisor")
    if min(cfg.left, cfg.right) < 0:
        raise HarkError(
            f"encoder.left={cfg.left}, encoder.right={cfg.right}: give numbers of frames, 0 or more"
        )
    for key in ("dropout", "dropout_pre", "dropout_att", "layer_drop"):
        if not 0 <= getattr(cfg, key) < 1:
            raise HarkError(f"encoder.{key}={getattr(cfg, key)}: choose a share from 0 to below 1")


preset("w2v_bert_conformer_tiny", W2vBertConformer.Config(dim=64, ff_dim=256, depth=2, heads=4, kernel=7))
preset("w2v_bert_conformer_large", W2vBertConformer.Config())
