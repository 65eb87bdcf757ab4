"""k-means over frames of one layer: the targets of HuBERT (arXiv 2106.07447, section II-C)."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from research.errors import HarkError
from research.files import write

FRAMES = 256  # per cluster that it is learnt from, at most
SEED = 0


@dataclass
class Codebook:
    centroids: Tensor  # (K, D) fp32
    layer: int
    weights: str  # SHA-256 of the model's whose frames these are

    def ids(self, x: Tensor) -> Tensor:
        """(T, D) -> the nearest centroid of every frame: (T,) int16, int32 where there are more than that counts."""
        c = self.centroids.to(x.device)
        with torch.autocast(x.device.type, enabled=False):  # in bf16 others would be near
            nearest = (c.square().sum(1) - 2 * (x @ c.T)).argmin(1)  # (T,)
        return nearest.to(torch.int16 if len(c) <= torch.iinfo(torch.int16).max + 1 else torch.int32)

    def digest(self) -> str:
        """SHA-256 of the centroids."""
        return hashlib.sha256(self.centroids.numpy().tobytes()).hexdigest()

    def save(self, path: Path) -> None:
        facts = {"layer": str(self.layer), "weights": self.weights}
        write(path, save({"centroids": self.centroids}, facts))


def load(path: Path, weights: str) -> Codebook:
    """Read a codebook; HarkError when it is none, or one of another model."""
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata()
            found = Codebook(file.get_tensor("centroids"), int(facts["layer"]), facts["weights"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise HarkError(f"{path}: is no codebook of `hark extract --kmeans` ({error})") from None
    if found.weights != weights:
        raise HarkError(f"{path}: holds clusters of another model's frames; learn new ones with --kmeans")
    return found


def learn(frames: Iterable[Tensor], clusters: int, layer: int, weights: str) -> Codebook:
    """Cluster frames, each (T, D), on the host; the same frames give the same codebook.

    The settings are those of HuBERT's labels, the last frames beyond `FRAMES` per cluster are not used.
    HarkError when there are fewer frames than clusters.
    """
    from sklearn.cluster import MiniBatchKMeans  # noqa: PLC0415  slow to import

    x = torch.cat(list(frames))[: FRAMES * clusters]  # (M, D)
    if len(x) < clusters:
        raise HarkError(f"--kmeans {clusters}: there are only {len(x)} frames to learn from; ask for fewer")
    model = MiniBatchKMeans(
        clusters,
        batch_size=10_000,
        max_iter=100,
        tol=0.0,
        max_no_improvement=100,
        n_init=20,
        reassignment_ratio=0.0,
        random_state=SEED,
    ).fit(x.numpy())
    return Codebook(torch.from_numpy(model.cluster_centers_).float(), layer, weights)
