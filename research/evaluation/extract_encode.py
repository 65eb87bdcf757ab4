"""Batches -> what is stored of them."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from research.config import Precision
from research.contracts import Batch, Seq
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
    precision: Precision = Precision.fp32  # that layers are computed in

    @property
    def name(self) -> str:
        """What the dtype is called."""
        return str(self.dtype).removeprefix("torch.")


@contextmanager
def still(upstream: Upstream, precision: Precision = Precision.fp32) -> Iterator[None]:
    """Surroundings in which a forward is a function of its input: eval mode, no gradient, true fp32 or bf16."""
    bf16 = precision is Precision.bf16
    with ExitStack() as held:
        held.enter_context(evaluating(upstream))
        held.enter_context(torch.no_grad())
        held.enter_context(torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False))
        held.enter_context(torch.autocast(upstream.device.type, torch.bfloat16, enabled=bf16))
        yield


def encode(upstream: Upstream, batch: Batch, layers: Sequence[int]) -> Iterator[Tensor]:
    """Layers of every row of a batch without its padding: (L, T, D), fp32, on the model's device."""
    encoded = upstream(sent(batch.audio, upstream.device), layers)
    for row, length in enumerate(encoded.last.lengths.tolist()):
        yield torch.stack([x[row, :length].float() for x in encoded.layers])


def sent(audio: Seq, device: torch.device) -> Seq:
    """Audio on the device; it travels while the device works on what came before."""
    return Seq(audio.x.pin_memory(), audio.lengths).to(device) if device.type == "cuda" else audio.to(device)


def store(
    shard: Shard, upstream: Upstream, wanted: Wanted, codebook: Codebook | None, read: tuple[Item, Loaded]
) -> None:
    """Add a batch to a shard; what a GPU makes is there when it has done all that it was given."""
    item, loaded = read
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
            shard.tensors[f"{row}{IDS}"] = to_host(codebook.ids(x[-1]))  # (T,)
        if wanted.layers:
            y = finished(x[: len(wanted.layers)], wanted)
            shard.sums[row] = to_host(y.sum(dtype=torch.float32))
            shard.tensors[f"{row}"] = to_host(y)


def finished(x: Tensor, wanted: Wanted) -> Tensor:
    """(L, T, D) -> what is stored: (L, T, D) or (L, D)."""
    pooled = x.mean(1) if wanted.pool else x
    return pooled.to(wanted.dtype).contiguous()


def to_host(x: Tensor) -> Tensor:
    """Copy from a GPU without waiting for it."""
    return x.to("cpu", non_blocking=True)


def check(shard: Shard, wanted: Wanted, manifest: Manifest) -> None:
    """HarkError when features are not finite."""
    for row, total in shard.sums.items():
        if not total.isfinite() and not shard.tensors[f"{row}"].isfinite().all():
            raise HarkError(
                f"{manifest.where(row)}: its features are not finite in {wanted.name}; "
                "try --dtype float32 or bfloat16"
            )
