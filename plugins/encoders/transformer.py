from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from research.contracts import Encoded, Encoder, Seq
from research.errors import HarkError
from research.nn.attention import ATTENTION, Layout, Positions, Window, last_seen, lay_out, refuse_context
from research.nn.causal import Convolutions, furthest
from research.nn.dropout import Dropout
from research.nn.linear import Linear
from research.nn.transformer import Block, Distances, GatedAttention, NormOrder, PositionConv, PositionNorm
from research.registry import preset, register


@register("transformer")
class Transformer(Encoder):
    """Transformer blocks behind convolutional positions (wav2vec 2.0, arXiv 2006.11477), of HuBERT, WavLM and data2vec.

    One frame for every frontend frame. Masked frames are to be filled between `embed` and `context`: positions read
    what fills them.
    """

    example = (
        "objective=wav2vec2",
        "encoder.dim=64",
        "encoder.depth=2",
        "encoder.heads=4",
        "encoder.ff_dim=128",
        "encoder.position_kernel=16",
        "encoder.position_groups=4",
    )

    @dataclass(kw_only=True)
    class Config(Encoder.Config):
        dim: int = 768  # D
        depth: int = 12  # blocks
        heads: int = 12  # of the attention
        ff_dim: int = 3072  # inner width of the feed-forwards
        order: NormOrder = NormOrder.post
        position_kernel: int = 128  # frames
        position_groups: int = 16  # of the channels, in the convolution for positions
        position_layers: int = 1  # convolutions in a row; 0: none
        position_norm: PositionNorm = PositionNorm.weight
        convolutions: Convolutions = Convolutions.centred  # those of the positions
        positions: Positions = Positions.none  # that attention has besides
        context: tuple[int, int] = (-1, -1)  # frames that attention sees to the left and right; -1: all
        window: Window = Window.sliding
        buckets: int = (
            0  # of distances that bias attention, gated (arXiv 2110.13900); 0: attention has no bias
        )
        max_distance: int = 800  # frames; what is farther apart is in one bucket
        dropout: float = 0.1  # of what feed-forwards and attention give
        dropout_embed: float = 0.1  # on what `embed` gives
        dropout_att: float = 0.1  # on attention weights
        dropout_ff: float = 0.0  # inside feed-forwards
        layer_drop: float = 0.05  # chance that a row skips a block
        checkpoint_layers: bool = field(default=False, metadata={"volatile": True})  # recompute activations

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        refuse(cfg)
        self.cfg, self.dim, self.depth, self.stride = cfg, cfg.dim, cfg.depth, 1
        self.ahead = ahead(cfg)
        self.embed_norm = nn.LayerNorm(dim_in)
        self.projection = Linear(dim_in, cfg.dim)
        self.dropout_embed, self.dropout = Dropout(cfg.dropout_embed), Dropout(cfg.dropout)
        self.positions = nn.ModuleList(
            PositionConv(
                cfg.dim, cfg.position_kernel, cfg.position_groups, cfg.position_norm, cfg.convolutions
            )
            for _ in range(cfg.position_layers)
        )
        self.norm = nn.LayerNorm(cfg.dim)  # order=post: of what the first block reads; pre: after the last
        if cfg.buckets:
            self.distances = Distances(cfg.buckets, cfg.heads, cfg.max_distance)
        self.layers = nn.ModuleList(self.block(cfg) for _ in range(cfg.depth))

    def block(self, cfg: Config) -> Block:
        kind = GatedAttention if cfg.buckets else ATTENTION[cfg.positions]
        return Block(
            kind(cfg.dim, cfg.heads, bias=True, dropout=cfg.dropout_att),
            cfg.dim,
            cfg.ff_dim,
            order=cfg.order,
            dropout=cfg.dropout,
            dropout_ff=cfg.dropout_ff,
            layer_drop=cfg.layer_drop,
        )

    def embed(self, feats: Seq) -> Seq:  # (B, S, F) -> (B, S, D)
        return feats.replace(self.dropout_embed(self.projection(self.embed_norm(feats.x))))

    def context(self, x: Seq, layers: Sequence[int] = ()) -> Encoded:
        cfg = self.cfg
        layout = lay_out(x, *cfg.context, cfg.positions, cfg.heads, window=cfg.window)
        if cfg.buckets:
            layout.table = self.distances(x.x.size(1))  # (H, T, T)
        y = self.dropout(self.place(x))
        states = [y]
        for layer in self.layers:
            y = self.run(layer, y, layout)
            states.append(y)
        if cfg.order is NormOrder.pre:
            states[-1] = self.norm(states[-1])
        return Encoded(x.replace(states[-1]), [states[depth] for depth in layers])

    def place(self, x: Seq) -> Tensor:
        """Add positions; the residual stream is fp32 under any autocast: (B, T, D) -> (B, T, D)."""
        y = positions = x.x.float()
        for convolution in self.positions:
            positions = convolution(positions, x.valid)
        y = y + positions if self.positions else y
        return self.norm(y) if self.cfg.order is NormOrder.post else y

    def run(self, layer: nn.Module, x: Tensor, layout: Layout) -> Tensor:
        if not (self.cfg.checkpoint_layers and torch.is_grad_enabled()):
            return layer(x, layout)
        return checkpoint(layer, x, layout, use_reentrant=False)


def ahead(cfg: Transformer.Config) -> int | None:
    """How many frames the encoder hears ahead; None: all."""
    right = cfg.context[1]
    if right < 0:
        return None
    attended = furthest(lambda frame: last_seen(frame, right, cfg.window), cfg.depth, right + 1)
    return attended + cfg.position_layers * cfg.convolutions.ahead(cfg.position_kernel)


def refuse(cfg: Transformer.Config) -> None:
    """Raise HarkError for settings that no encoder can have."""
    for key in ("heads", "position_groups"):
        if cfg.dim % getattr(cfg, key):
            raise HarkError(
                f"encoder.{key}={getattr(cfg, key)}: does not divide encoder.dim={cfg.dim}; choose a divisor"
            )
    if cfg.depth < 1 or cfg.position_layers < 0:
        raise HarkError("encoder.depth is at least 1, encoder.position_layers at least 0")
    if cfg.positions is Positions.rope and cfg.dim // cfg.heads % 2:
        raise HarkError(f"encoder.heads={cfg.heads}: rope turns pairs, and heads are odd; choose others")
    refuse_context(cfg.context, cfg.window)
    if cfg.buckets and (cfg.positions is not Positions.none or max(cfg.context) >= 0):
        raise HarkError(
            f"encoder.buckets={cfg.buckets}: is for whole context and encoder.positions=none; type encoder.buckets=0"
        )
    if cfg.buckets and (cfg.buckets % 4 or cfg.max_distance <= cfg.buckets // 4):
        raise HarkError(
            f"encoder.buckets={cfg.buckets}: choose a multiple of 4, and encoder.max_distance above a quarter of it"
        )
    for key in ("dropout", "dropout_embed", "dropout_att", "dropout_ff", "layer_drop"):
        if not 0 <= getattr(cfg, key) < 1:
            raise HarkError(f"encoder.{key}={getattr(cfg, key)}: choose a share from 0 to below 1")


tiny = Transformer.Config(dim=64, depth=2, heads=4, ff_dim=128, position_kernel=16, position_groups=4)
large = Transformer.Config(dim=1024, depth=24, heads=16, ff_dim=4096, order=NormOrder.pre, layer_drop=0.2)
data2vec = Transformer.Config(
    position_kernel=19, position_layers=5, position_norm=PositionNorm.layer, dropout_embed=0.0
)
preset("transformer_tiny", tiny)
preset("transformer_tiny_causal", replace(tiny, convolutions=Convolutions.causal, context=(-1, 0)))
preset("transformer_base", Transformer.Config())
preset("transformer_large", large)
preset("transformer_rope", Transformer.Config(position_layers=0, positions=Positions.rope))
preset("transformer_alibi", Transformer.Config(position_layers=0, positions=Positions.alibi))
preset("wavlm_base", Transformer.Config(buckets=320))
preset("wavlm_large", replace(large, buckets=320, layer_drop=0.0))
preset("data2vec_base", data2vec)
preset("data2vec_large", replace(data2vec, dim=1024, depth=24, heads=16, ff_dim=4096, layer_drop=0.0))
