"""Batches -> what is stored of them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from research.contracts import Batch
from research.data.loader import Loaded
from research.data.manifest import Manifest
from research.data.plan import Item
from research.errors import HarkError
from research.evaluation.extract_kmeans import Codebook
from research.evaluation.extract_shards import IDS, Shard
from research.evaluation.features import evaluating
from research.model import Upstream


@dataclass(frozen=True)
class Wanted:
    """What is stored of an utterance."""

    layers: tuple[int, ...]  # in this order
    dtype: torch.dtype
    pool: bool  # the mean over time

    @property
    def name(self) -> str:
        """What the dtype is called."""
        return str(self.dtype).removeprefix("torch.")


@contextmanager
def still(upstream: Upstream) -> Iterator[None]:
    """Surroundings in which a forward is a function of its input: eval mode, no gradient, true fp32."""
    with ExitStack() as held:
        held.enter_context(evaluating(upstream))
        held.enter_context(torch.no_grad())
        held.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
        yield


def encode(upstream: Upstream, batch: Batch, layers: Sequence[int]) -> Iterator[Tensor]:
    """Layers of every row of a batch without its padding: (L, T, D), fp32, on the model's device."""
    encoded = upstream(batch.audio.to(upstream.device), layers)
    for row, length in enumerate(encoded.last.lengths.tolist()):
        yield torch.stack([x[row, :length].float() for x in encoded.layers])


def store(
    shard: Shard,
    upstream: Upstream,
    wanted: Wanted,
    codebook: Codebook | None,
    read: tuple[Manifest, Item, Loaded],
) -> None:
    """Add a batch to a shard; HarkError when features are not finite."""
    manifest, item, loaded = read
    there = set(loaded.rows)
    lost = [row for row in item.rows.tolist() if row not in there]
    shard.bad |= dict(zip(lost, loaded.bad, strict=True))
    if loaded.batch is None:
        return
    layers = [*wanted.layers, *([codebook.layer] if codebook else [])]
    for row, x in zip(loaded.rows, encode(upstream, loaded.batch, layers), strict=True):
        if x.size(1) == 0:
            shard.bad[row] = "is too short for one frame"
            continue
        if codebook:
            shard.tensors[f"{row}{IDS}"] = codebook.ids(x[-1]).cpu()  # (T,)
        if wanted.layers:
            shard.tensors[f"{row}"] = finished(x[: len(wanted.layers)], wanted, manifest.where(row))


def finished(x: Tensor, wanted: Wanted, where: str) -> Tensor:
    """(L, T, D) -> what is stored: (L, T, D) or (L, D), on the host."""
    pooled = x.mean(1) if wanted.pool else x
    y = pooled.to(wanted.dtype).cpu()
    if not y.isfinite().all():
        raise HarkError(
            f"{where}: its features are not finite in {wanted.name}; try --dtype float32 or bfloat16"
        )
    return y.contiguous()
