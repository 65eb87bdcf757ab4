from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Encoded, Encoder, Seq
from research.nn.functional import stack
from research.nn.linear import Linear
from research.registry import register


class Block(nn.Module):
    def __init__(self, dim: int, kernel: int) -> None:
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(dim), Linear(dim, dim)
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:  # (B, T, D), (B, T) -> (B, T, D)
        y = self.norm(x) * valid[..., None]  # what stands after a row's end must not reach its frames
        return x + self.mix(F.gelu(self.conv(y.mT).mT))


@register("starter")
class Starter(Encoder):
    """Say here what it is, and from which paper (arXiv id). As it is: frames in stacks, then residual convolutions."""

    @dataclass(kw_only=True)
    class Config(Encoder.Config):
        dim: int = 64
        depth: int = 2  # layers
        kernel: int = 9  # frames, odd
        stride: int = 4  # frontend frames in one

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        self.dim, self.depth, self.stride = cfg.dim, cfg.depth, cfg.stride
        self.proj = Linear(dim_in * cfg.stride, cfg.dim)
        self.blocks = nn.ModuleList(Block(cfg.dim, cfg.kernel) for _ in range(cfg.depth))

    def embed(self, feats: Seq) -> Seq:
        x = stack(feats.x * feats.valid[..., None], self.stride)  # (B, T, stride * F)
        return Seq(self.proj(x), -(-feats.lengths // self.stride))

    def context(self, x: Seq, layers: Sequence[int] = ()) -> Encoded:
        outputs = [x.x]  # depth + 1 of them, each (B, T, D)
        for block in self.blocks:
            outputs.append(block(outputs[-1], x.valid))
        return Encoded(x.replace(outputs[-1]), [outputs[layer] for layer in layers])
