from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Codes, Quantizer
from research.nn.functional import likeliest
from research.nn.linear import linear
from research.registry import preset, register

ROOM = 2**24  # similarities of inputs and codes that exist at a time


@register("random_projection")
class RandomProjection(Quantizer):
    """Nearest code to a fixed random projection (BEST-RQ, arXiv 2202.01855, eq. 1). Nothing is trained.

    Projections and codes lie on the unit sphere, where the nearest by l2 and by cosine are the same code: one matmul
    and an argmax. Always in fp32, so that the targets do not depend on the compute dtype. Projection and codebook
    are drawn from `seed` alone, not from the run's, so that all runs of a sweep predict the same targets.
    """

    example = ("quantizer.codes=64",)
    projection: Tensor  # (G, dim_in, C)
    codebook: Tensor  # (G, V, C)

    @dataclass(kw_only=True)
    class Config(Quantizer.Config):
        books: int = 1  # G
        codes: int = 8192  # V
        dim: int = 16  # of a projected vector
        layer_norm: bool = (
            False  # normalise the input vector, as the paper does; NEST relies on normalised mel
        )
        seed: int = 0  # of projections and codes

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        self.books, self.codes, self.dim = cfg.books, cfg.codes, cfg.books * cfg.dim
        self.layer_norm = cfg.layer_norm
        source = torch.Generator().manual_seed(cfg.seed)
        projection = torch.randn(cfg.books, dim_in, cfg.dim, generator=source, device="cpu") / dim_in**0.5
        codebook = torch.randn(cfg.books, cfg.codes, cfg.dim, generator=source, device="cpu")
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", F.normalize(codebook, dim=-1))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Codes:  # (..., dim_in) -> ids (..., G), vectors (..., G * C)
        flat = x.flatten(0, -2)  # (M, dim_in)
        with torch.autocast(x.device.type, enabled=False):
            parts = [self.nearest(part.float()) for part in flat.split(max(1, ROOM // self.codes))]
        ids = torch.cat(parts)  # (M, G)
        book = torch.arange(self.books, device=x.device)
        vectors = self.codebook[book, ids].flatten(1)  # (M, G * C)
        return Codes(ids.unflatten(0, x.shape[:-1]), vectors.unflatten(0, x.shape[:-1]))

    def nearest(self, x: Tensor) -> Tensor:  # (M, dim_in) -> (M, G)
        if self.layer_norm:
            x = F.layer_norm(x, x.shape[-1:])
        y = F.normalize(torch.einsum("md,gdc->gmc", x, self.projection), dim=-1)  # (G, M, C)
        nearest = [likeliest(linear(*pair)) for pair in zip(y, self.codebook, strict=True)]  # each (M,)
        return torch.stack(nearest, -1)  # (M, G)


preset("best_rq", RandomProjection.Config(layer_norm=True))
