from dataclasses import dataclass, field
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Codes, Quantizer
from research.errors import HarkError
from research.nn.functional import perplexity
from research.registry import register

MOST = 2**20  # codes of a book: heads have an output for each


class Grid(Quantizer):
    """Codes on a grid: every number is squashed and rounded to one of the levels of its dimension.

    An id is the number that the levels write, the first dimension its lowest digit. Subclasses say what is rounded.
    """

    levels: Tensor  # (d,)
    place: Tensor  # (d,) what a level of each dimension counts

    @dataclass(kw_only=True)
    class Config(Quantizer.Config):
        levels: list[int] = field(default_factory=lambda: [8, 5, 5, 5])  # of each dimension
        books: int = 1  # G

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        if not cfg.levels or min(cfg.levels) < 2 or cfg.books < 1:
            raise HarkError(
                f"quantizer.levels={list(cfg.levels)}, quantizer.books={cfg.books}: type at least one book, of at least "
                "one dimension, of at least two levels"
            )
        self.sizes, self.books, self.codes = list(cfg.levels), cfg.books, prod(cfg.levels)
        if self.codes > MOST:
            raise HarkError(
                f"quantizer.levels={list(cfg.levels)}: are {self.codes} codes; type fewer, or more books of fewer codes"
            )
        place = [prod(cfg.levels[:index]) for index in range(len(cfg.levels))]
        self.register_buffer("levels", torch.tensor(cfg.levels), persistent=False)
        self.register_buffer("place", torch.tensor(place), persistent=False)

    def squash(self, z: Tensor) -> Tensor:
        """Any numbers into 0 to levels - 1: (..., G, d) -> (..., G, d)."""
        return (z.tanh() + 1) / 2 * (self.levels - 1)

    def number(self, level: Tensor) -> Tensor:
        """(..., G, d) -> ids (..., G)."""
        return (level.long() * self.place).sum(-1)

    def value(self, level: Tensor) -> Tensor:
        """Levels as numbers in [-1, 1]: (..., G, d) -> (..., G, d)."""
        return 2 * level / (self.levels - 1) - 1


@register("fsq")
class FSQ(Grid):
    """Finite scalar quantization (arXiv 2309.15505, section 3.1): a few trained numbers, each rounded to a few levels.

    There is no codebook, `vectors` are a linear map of the rounded numbers; the gradient goes straight through the
    rounding. An even number of levels lies symmetrically around 0, where the paper's code moves it by half a level.
    Reconstruction keeps the paper's codes apart; a contrast does not, so there is a penalty too: 1 - perplexity /
    levels of each dimension, its numbers assigned to levels in proportion to how near they are, 0 when all levels are
    used alike. fp32 under any autocast.
    """

    example = ("objective=wav2vec2", "quantizer.levels=[4,3]", "quantizer.dim=16")

    @dataclass(kw_only=True)
    class Config(Grid.Config):
        dim: int = 256  # of the vectors: all books together

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg)
        if cfg.dim < 1:
            raise HarkError(f"quantizer.dim={cfg.dim}: vectors have at least one dimension")
        numbers = cfg.books * len(cfg.levels)
        self.dim, self.project, self.expand = cfg.dim, nn.Linear(dim_in, numbers), nn.Linear(numbers, cfg.dim)

    def forward(self, x: Tensor) -> Codes:  # (..., dim_in) -> ids (..., G), vectors (..., C)
        with torch.autocast(x.device.type, enabled=False):
            soft = self.squash(self.project(x.float()).unflatten(-1, (self.books, -1)))  # (..., G, d)
            level = soft.detach().round()
            through = soft + (level - soft).detach()
            vectors = self.expand(self.value(through).flatten(-2))  # (..., C)
            return Codes(self.number(level), vectors, penalty=self.spread(soft.flatten(0, -3)))

    def spread(self, soft: Tensor) -> Tensor:
        """How far levels are from being used alike, 0 to below 1: (M, G, d) -> scalar."""
        used = []  # share of its levels that a dimension uses
        for column, size in zip(soft.unbind(-1), self.sizes, strict=True):
            away = (column[..., None] - torch.arange(size, device=soft.device)).abs()  # (M, G, L)
            used.append(perplexity((1 - away).clamp(min=0).sum(0)) / size)
        return 1 - torch.stack(used).mean()


@register("random_fsq")
class RandomFSQ(Grid):
    """Levels of a fixed random projection: targets as BEST-RQ's (arXiv 2202.01855), without a search for the nearest.

    Nothing is trained. A projection of normalised inputs has about unit variance, of which tanh makes levels that are
    used about alike. It is drawn from `seed` alone, so that all runs of a sweep predict the same targets, and is fp32
    under any autocast. `vectors` are the levels, as numbers in [-1, 1].
    """

    example = ("quantizer.levels=[4,4,4]",)
    projection: Tensor  # (dim_in, G * d)

    @dataclass(kw_only=True)
    class Config(Grid.Config):
        levels: list[int] = field(default_factory=lambda: [8, 8, 8, 8])
        layer_norm: bool = False  # normalise the input vector; NEST relies on normalised mel
        seed: int = 0  # of the projections

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg)
        self.layer_norm, self.dim = cfg.layer_norm, cfg.books * len(cfg.levels)
        source = torch.Generator("cpu").manual_seed(cfg.seed)
        projection = torch.randn(dim_in, self.dim, generator=source, device="cpu") / dim_in**0.5
        self.register_buffer("projection", projection)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Codes:  # (..., dim_in) -> ids (..., G), vectors (..., G * d)
        with torch.autocast(x.device.type, enabled=False):
            x = F.layer_norm(x.float(), x.shape[-1:]) if self.layer_norm else x.float()
            z = (x @ self.projection).unflatten(-1, (self.books, -1))  # (..., G, d)
            level = self.squash(z).round()
            return Codes(self.number(level), self.value(level).flatten(-2))
