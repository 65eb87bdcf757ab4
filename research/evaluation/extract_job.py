"""What `hark extract` was asked for, checked; and features.json, which keeps one store one thing."""

import argparse
import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from research import registry
from research.config import Data, Precision
from research.data.features import FACTS
from research.errors import HarkError
from research.evaluation import extract_kmeans
from research.evaluation.extract_encode import Wanted
from research.evaluation.extract_kmeans import Codebook
from research.files import write
from research.interop.load import load
from research.interop.report import Fate, Report
from research.model import Upstream
from research.nn.frames import Frames

SCHEMA = 1
FRONTEND = "frontend="


@dataclass(kw_only=True)
class Job:
    """One extraction: of which model, of what, into which folder."""

    checkpoint: str  # where `upstream` is from
    upstream: Upstream
    report: Report
    input: Path  # a manifest, a folder, or an audio file
    out: Path
    wanted: Wanted
    data: Data  # batches, readers, and how much may be undecodable
    shard_mb: float = 500.0
    clusters: int | None = None  # to be learnt
    clustered: int | None = None  # the layer whose frames get ids
    given: Codebook | None = None  # instead of clusters that are learnt

    @cached_property
    def weights(self) -> str:
        """SHA-256 of the model's."""
        return digest(self.upstream)


def job_of(args: argparse.Namespace) -> Job:
    """Open the checkpoint and check the rest against it; HarkError names the option that is wrong."""
    for name, least in (("batch_seconds", 0), ("shard_mb", 0), ("kmeans", 1), ("stack", 0)):
        value = getattr(args, name)
        if value is not None and value <= least:
            raise HarkError(f"--{name.replace('_', '-')} {value:g}: must be above {least}")
    upstream, report = opened(args.checkpoint, args.stack)
    layers = chosen(args.layers, upstream.depth)
    given = extract_kmeans.load(args.kmeans_from, digest(upstream)) if args.kmeans_from else None
    data = Data(
        sample_rate=upstream.sample_rate,
        batch_seconds=args.batch_seconds,
        max_bad=args.max_bad,
        workers=args.workers,
    )
    return Job(
        checkpoint=str(args.checkpoint),
        upstream=upstream,
        report=report,
        input=args.input,
        out=args.out,
        wanted=Wanted(layers, getattr(torch, args.dtype), args.pool is not None, Precision(args.precision)),
        data=data,
        shard_mb=args.shard_mb,
        clusters=args.kmeans,
        clustered=clustered(args, layers, upstream.depth, given),
        given=given,
    )


def opened(checkpoint: str | Path, stack: int | None) -> tuple[Upstream, Report]:
    """Open a checkpoint, or a frontend that needs none; HarkError when it would, or there is none of that name."""
    name = str(checkpoint).removeprefix(FRONTEND)
    if name == str(checkpoint):
        if stack is not None:
            raise HarkError(
                f"--stack {stack}: is for frontend=NAME; the encoder of {checkpoint} has a stride of its own"
            )
        return load(checkpoint)
    registry.load_plugins()
    frontend = registry.build(registry.config_of("frontend", name))
    if any(True for _ in frontend.parameters()):
        raise HarkError(
            f"{checkpoint}: has weights, and these are not trained; name a checkpoint that has them"
        )
    return Upstream(frontend, Frames(frontend.dim, stack or 1)).eval(), Report(str(checkpoint))


def chosen(text: str, depth: int) -> tuple[int, ...]:
    """`all`, `last`, `none` or `0,3,12` -> layers, in that order."""
    named = {"all": tuple(range(depth + 1)), "last": (depth,), "none": ()}
    if text in named:
        return named[text]
    words = [word.strip() for word in text.split(",")]
    for i, word in enumerate(words):
        if not word.isdecimal() or int(word) > depth:
            raise HarkError(
                f"--layers {text}: '{word}' is no layer; there are 0 to {depth}, or type all, last, none"
            )
        if word in words[:i]:
            raise HarkError(f"--layers {text}: {word} is there twice")
    return tuple(map(int, words))


def clustered(
    args: argparse.Namespace, layers: tuple[int, ...], depth: int, given: Codebook | None
) -> int | None:
    """Which layer is clustered; None when none is."""
    asked: int | None = args.kmeans_layer
    if args.kmeans is None and given is None:
        if asked is not None or not layers:
            option = "--layers none" if asked is None else f"--kmeans-layer {asked}"
            raise HarkError(f"{option}: stores no ids by itself; add --kmeans K or --kmeans-from FILE")
        return None
    if asked is not None and not 0 <= asked <= depth:
        raise HarkError(f"--kmeans-layer {asked}: is no layer; there are 0 to {depth}")
    if given is not None:
        if asked not in (None, given.layer):
            raise HarkError(
                f"--kmeans-layer {asked}: {args.kmeans_from} holds clusters of layer {given.layer}"
            )
        return given.layer
    if asked is None and not layers:
        raise HarkError("--layers none: say with --kmeans-layer L which layer is clustered")
    return layers[-1] if asked is None else asked


def digest(upstream: Upstream) -> str:
    """SHA-256 of what decides features: all weights, and how both parts are configured."""
    found = hashlib.sha256()
    for part in (upstream.frontend, upstream.encoder):
        found.update(repr(getattr(part, "cfg", None)).encode())
    for name, value in sorted(upstream.state_dict().items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def facts(job: Job, manifest: Path) -> dict[str, Any]:
    """What features.json says of a store before anything is in it."""
    upstream, wanted = job.upstream, job.wanted
    clusters = len(job.given.centroids) if job.given else job.clusters
    source = job.given.digest() if job.given else "learnt here"
    return {
        "schema": SCHEMA,
        "checkpoint": job.checkpoint,
        "report": {fate.value: len(job.report.keys(fate)) for fate in Fate},
        "weights": job.weights,
        "frontend": type(upstream.frontend).__name__,
        "encoder": type(upstream.encoder).__name__,
        "depth": upstream.depth,
        "layers": list(wanted.layers),
        "dim": upstream.dim,
        "period": upstream.period,
        "sample_rate": upstream.sample_rate,
        "dtype": wanted.name,
        "precision": None if wanted.precision is Precision.fp32 else wanted.precision.value,
        "pool": "mean" if wanted.pool else None,
        "kmeans": clusters and {"clusters": clusters, "layer": job.clustered, "codebook": source},
        "manifest": hashlib.sha256(manifest.read_bytes()).hexdigest(),
        "batch_seconds": job.data.batch_seconds,
        "shard_mb": job.shard_mb,
    }


def claim(out: Path, wanted: dict[str, Any]) -> None:
    """Make `out` the store of what is wanted; HarkError when it is that of something else."""
    path = out / FACTS
    if not path.exists():
        write(path, json.dumps(wanted, indent=1))
        return
    there = json.loads(path.read_text())
    for key, value in wanted.items():
        if (
            key not in ("checkpoint", "report") and there.get(key) != value
        ):  # the same weights may lie elsewhere
            raise HarkError(
                f"{out}: holds features with {key} {there.get(key)}, not {value}; name another --out, or remove it"
            )


def complete(out: Path, results: dict[str, Any]) -> None:
    """Add what was found to features.json."""
    path = out / FACTS
    write(path, json.dumps(json.loads(path.read_text()) | results, indent=1, ensure_ascii=False))
