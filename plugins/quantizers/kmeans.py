from dataclasses import dataclass

from safetensors import SafetensorError, safe_open
from torch import Tensor

from research.errors import HarkError
from research.nn.clusters import Clusters
from research.registry import register


@register("kmeans")
class KMeans(Clusters):
    """k-means clusters: of a file that `hark extract --kmeans` wrote, or fitted while the model trains.

    Fitted by mini-batches (Sculley 2010, doi 10.1145/1772690.1772862, algorithm 1, with all inputs of an optimizer step
    for a batch): a code is the mean of all inputs that ever were its own, and begins at a random input. Such a mean
    follows slowly what moves: `refit` begins anew with the inputs of the next step, and `quantizer=ema` forgets by
    itself. A codebook from a file stays as it is, `refit` or not.
    """

    example = ("quantizer.codes=16",)

    @dataclass(kw_only=True)
    class Config(Clusters.Config):
        codes: int = 500  # that are fitted; a file has its own number
        file: str | None = None  # null: fitted

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__(cfg.codes if cfg.file is None else rows(cfg.file, dim_in), dim_in, decay=1.0)
        self.online = self.fitted = cfg.file is None
        if cfg.file is not None and not self.codebook.is_meta:
            with safe_open(cfg.file, framework="pt") as file:
                self.codebook.copy_(file.get_tensor("centroids"))

    def collect(self, x: Tensor, ids: Tensor) -> None:
        if self.fitted:
            super().collect(x, ids)

    def on_step_end(self, step: int) -> None:
        if self.fitted:
            super().on_step_end(step)


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
