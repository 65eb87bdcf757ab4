from dataclasses import dataclass

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, distributed

from research.errors import HarkError
from research.nn.clusters import Clusters
from research.registry import register


@register("kmeans")
class KMeans(Clusters):
    """k-means clusters: of a file that `hark extract --kmeans` wrote, or fitted while the model trains.

    Fitted by mini-batches (Sculley 2010, doi 10.1145/1772690.1772862, algorithm 1, with all inputs of an optimizer step
    for a batch): a code is the mean of all inputs that ever were its own. Codes begin at random inputs of the first
    step, and so does in each later step a code that never had an input of its own; ids of the first step are of a
    random codebook. A mean over everything follows slowly what moves: `refit` begins anew with the inputs of the next
    step, and `quantizer=ema` forgets by itself. A codebook from a file stays as it is, `refit` or not.
    """

    example = ("quantizer.codes=16",)
    seen: Tensor  # (V,) inputs of each code until now; -1: it has not begun
    drawn: Tensor  # (V, 1 + C) a sample of this step's inputs behind random keys, rising; inf: there is none

    @dataclass(kw_only=True)
    class Config(Clusters.Config):
        codes: int = 500  # that are fitted; a file has its own number
        file: str | None = None  # null: fitted

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg.codes if cfg.file is None else rows(cfg.file, dim_in), dim_in)
        self.online = self.fitted = cfg.file is None
        if cfg.file is not None and not self.codebook.is_meta:
            with safe_open(cfg.file, framework="pt") as file:
                self.codebook.copy_(file.get_tensor("centroids"))
        self.register_buffer("seen", torch.full((self.codes,), -1.0))
        self.register_buffer("drawn", torch.full((self.codes, 1 + dim_in), torch.inf), persistent=False)

    def collect(self, x: Tensor, ids: Tensor) -> None:
        if self.fitted:
            super().collect(x, ids)
            keys = torch.rand(len(x), 1, device=x.device)
            keys.masked_fill_(~x.isfinite().all(1, keepdim=True), torch.inf)
            self.drawn.copy_(first(torch.cat([self.drawn, torch.cat([keys, x], 1)]), self.codes))

    def on_step_end(self, step: int) -> None:
        if self.fitted:
            super().on_step_end(step)
            self.drawn.fill_(torch.inf)

    def move(self, mean: Tensor, count: Tensor) -> None:
        if distributed.is_available() and distributed.is_initialized():
            all_drawn = [torch.empty_like(self.drawn) for _ in range(distributed.get_world_size())]
            distributed.all_gather(all_drawn, self.drawn)
            self.drawn.copy_(first(torch.cat(all_drawn), self.codes))
        begun = self.seen >= 0  # (V,)
        self.seen += count * begun
        self.codebook.lerp_(mean, (count * begun / self.seen.clamp(min=1))[:, None])
        waits = self.seen <= 0  # (V,)
        start = self.drawn[
            (waits.cumsum(0) - 1).clamp(min=0)
        ]  # (V, 1 + C) the first of them for the first that waits
        begins = waits & start[:, 0].isfinite()
        self.codebook.copy_(torch.where(begins[:, None], start[:, 1:], self.codebook))
        self.seen.masked_fill_(begins, 0)

    def refit(self) -> None:
        if self.fitted:
            self.seen.fill_(-1)
            self.drawn.fill_(torch.inf)


def first(drawn: Tensor, codes: int) -> Tensor:
    """Of inputs behind random keys those with the smallest: a sample that no order of batches changes."""
    return drawn[drawn[:, 0].topk(codes, largest=False).indices]


def rows(path: str, dim: int) -> int:
    """Read how many centroids a file has; HarkError when it is no codebook, or not one of `dim`."""
    try:
        with safe_open(path, framework="pt") as file:
            codes, width = file.get_slice("centroids").get_shape()
    except (OSError, SafetensorError, ValueError) as error:
        raise HarkError(
            f"quantizer.file={path}: is no codebook of `hark extract --kmeans` ({error})"
        ) from None
    if width != dim:
        raise HarkError(
            f"quantizer.file={path}: its centroids have {width} dimensions, but what this objective quantizes has "
            f"{dim}; cluster frames of that width, or leave quantizer.file out to fit clusters in training"
        )
    return int(codes)
