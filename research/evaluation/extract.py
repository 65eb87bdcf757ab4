"""Any checkpoint, any audio -> a store of features: eval mode, no gradient, and nothing in the model moves.

Batches are planned from durations alone, longest first, and put into shards: which utterances share a batch depends
neither on ranks nor on interruptions, so the same command gives the same bits. A shard is written whole and never
again; the manifests come last.
"""

import argparse
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from research import runs
from research.data import torch_reader
from research.data.features import FACTS, LABELS, MANIFEST
from research.data.loader import Loader
from research.data.pieces import progress
from research.data.plan import Item
from research.data.stream import ENOUGH, once
from research.engine import bindings, pipeline
from research.engine.gangs import Ranks, start
from research.errors import HarkError
from research.evaluation import extract_input
from research.evaluation.extract_encode import check, encode, still, store
from research.evaluation.extract_job import Job, claim, complete, facts, job_of
from research.evaluation.extract_kmeans import FRAMES, SEED, Codebook, learn, load
from research.evaluation.extract_shards import (
    IDS,
    Shard,
    contents,
    gather,
    path_of_shard,
    plan,
    save,
    write_manifest,
)
from research.evaluation.features import batches

SHORTEST = 0.1  # s: what every plugin can take
CODEBOOK = "kmeans.safetensors"


def extract(args: argparse.Namespace) -> None:
    """Do what the command line asks, alone or as one of several ranks, or go on with it.

    HarkError: no such checkpoint, input, layer or codebook; FOLDER holds something else; too much is undecodable.
    """
    job = job_of(args)
    ranks = start(args.device)
    try:
        make(job, ranks)
    finally:
        ranks.close()


def make(job: Job, ranks: Ranks) -> None:
    """Make the store of a job together with the other ranks, or go on with it; HarkError as `extract`."""
    with ExitStack() as held:
        missing: dict[str, str] = {}
        if ranks.rank == 0:
            files = extract_input.audio_of(job.input)
            (job.out / "shards").mkdir(parents=True, exist_ok=True)
            held.enter_context(runs.only_one(job.out))
            missing = extract_input.index(files, job.input, job.out)
            path = extract_input.manifest_of(job.input, job.out)
            extract_input.read(path, job.data)  # refuses it, or fills the cache that the others read
            claim(job.out, facts(job, path))
        ranks.barrier()
        Extraction(job, ranks, missing).go()
        ranks.barrier()  # the manifests are there


class Extraction:
    """One rank of one extraction. `missing` are files that no line of the manifest tells of, with the reasons."""

    def __init__(self, job: Job, ranks: Ranks, missing: dict[str, str]) -> None:
        self.job, self.ranks, self.missing, self.out = job, ranks, missing, job.out
        path = extract_input.manifest_of(job.input, job.out)
        self.manifest, self.data = extract_input.read(path, job.data)
        self.loader = Loader(self.manifest, None, self.data, seed=0)
        self.read = torch_reader.read if bindings.problem() else pipeline.read
        self.long = self.manifest.durations >= SHORTEST  # (U,)
        if not self.long.any():
            raise HarkError(f"{path}: every utterance is shorter than {SHORTEST} s")
        self.upstream = job.upstream.to(ranks.device)

    def go(self) -> None:
        shards = plan(self.batches(np.flatnonzero(self.long)), self.sizes(), self.job.shard_mb * 1e6)
        todo = [number for number in range(len(shards)) if contents(path_of_shard(self.out, number)) is None]
        with still(self.upstream, self.job.wanted.precision):
            codebook = self.codebook()
            self.ranks.barrier()  # all have seen which shards are missing
            begin = time.monotonic()
            done = self.encode(shards, todo[self.ranks.rank :: self.ranks.size], codebook)
            total = torch.tensor([done], device=self.ranks.device)
            self.ranks.all_sum(total)
        if self.ranks.rank == 0:
            self.finish(len(shards), total.item(), time.monotonic() - begin)

    def batches(self, rows: NDArray[np.int64]) -> list[Item]:
        """Batches of some utterances, the longest first, each of `batch_seconds` with its padding."""
        durations = self.manifest.durations[rows].tolist()
        return [Item(0, rows[part]) for part in batches(durations, self.data.batch_seconds)]

    def sizes(self) -> NDArray[np.float64]:
        """Bytes that each utterance takes in a shard, about: (U,)."""
        wanted = self.job.wanted
        frames = np.ceil(self.manifest.durations / self.upstream.period)
        vectors = np.ones_like(frames) if wanted.pool else frames
        ids = 0.0 if self.job.clustered is None else 2.0
        per_vector = len(wanted.layers) * self.upstream.dim * wanted.dtype.itemsize
        return np.asarray(vectors * per_vector + frames * ids)

    def encode(self, shards: list[list[Item]], mine: list[int], codebook: Codebook | None) -> float:
        """Write shards of this rank, each while the next is computed; give the seconds of audio in them."""
        items = [item for number in mine for item in shards[number]]
        stream = zip(items, once(self.loader, items, self.read), strict=True)
        seconds, wanted = 0.0, self.job.wanted
        bar = progress()
        bar.disable |= self.ranks.rank > 0  # one bar on a terminal
        with bar, ThreadPoolExecutor(1) as writer:
            before: Future[None] | None = None
            work = bar.add_task("features", total=len(items))
            for number in mine:
                shard = Shard()
                for item, loaded in islice(stream, len(shards[number])):
                    store(shard, self.upstream, wanted, codebook, (item, loaded))
                    seconds += loaded.seconds
                    bar.advance(work)
                if before:
                    before.result()
                before = writer.submit(self.write, number, shard, self.reached())
            if before:
                before.result()
        return seconds

    def reached(self) -> torch.cuda.Event | None:
        """What comes to pass when the device has done all that it was given."""
        device = self.ranks.device
        return torch.cuda.current_stream(device).record_event() if device.type == "cuda" else None

    def write(self, number: int, shard: Shard, done: torch.cuda.Event | None) -> None:
        if done:
            done.synchronize()
        check(shard, self.job.wanted, self.manifest)
        save(path_of_shard(self.out, number), shard)

    def codebook(self) -> Codebook | None:
        """The clusters that frames are assigned to: given, learnt before, or learnt now by rank 0."""
        if self.job.clustered is None:
            return None
        path = self.out / CODEBOOK
        if self.ranks.rank == 0 and not path.exists():
            (self.job.given or self.learnt(self.job.clustered)).save(path)
        self.ranks.barrier()
        found = load(path, self.job.weights)
        return replace(found, centroids=found.centroids.to(self.ranks.device))

    def learnt(self, layer: int) -> Codebook:
        """Cluster frames of utterances that are drawn at random, as many as it takes."""
        clusters = self.job.clusters
        assert clusters is not None
        order = np.random.default_rng(SEED).permutation(np.flatnonzero(self.long))
        reached = np.cumsum(self.manifest.durations[order]) / self.upstream.period >= FRAMES * clusters
        drawn = order[: int(np.argmax(reached)) + 1] if reached.any() else order
        stream = once(self.loader, self.batches(drawn), self.read)
        frames = (
            x[0].cpu()
            for loaded in stream
            if loaded.batch
            for x in encode(self.upstream, loaded.batch, [layer])
        )
        return learn(frames, clusters, layer, self.job.weights)

    def finish(self, shards: int, seconds: float, wall: float) -> None:
        """Check what was lost, write the manifests, tell how it went."""
        found = gather(self.out, shards, len(self.manifest))
        bad = len(found.bad) + len(self.missing)
        if bad == len(self.missing) + self.long.sum():
            raise HarkError(f"{self.job.input}: nothing in it could be read; see the warnings")
        everything = len(self.manifest) + len(self.missing)
        if everything >= ENOUGH and bad > self.data.max_bad * everything:
            raise HarkError(
                f"{self.out}: {bad} of {everything} utterances could not be read, more than "
                f"--max-bad {self.data.max_bad:g}; with a larger one the same command goes on"
            )
        short = dict.fromkeys(np.flatnonzero(~self.long).tolist(), f"under {SHORTEST} s")
        lost = {self.manifest.where(row): reason for row, reason in sorted((found.bad | short).items())}
        labels = {} if self.job.clustered is None else {"label": IDS}
        if self.job.wanted.layers:
            write_manifest(self.out / MANIFEST, self.manifest, found, {"feature": ""} | labels)
        if labels:
            write_manifest(self.out / LABELS, self.manifest, found, labels)
        count = int((found.shard >= 0).sum())
        results = {"utterances": count, "left_out": self.missing | lost, "skipped": self.manifest.left_out}
        complete(self.out, results)
        tell(self.job, results, shards, seconds / max(wall, 1e-9))


def tell(job: Job, results: dict[str, Any], shards: int, speed: float) -> None:
    """Say what is in a store and how fast it was made."""
    out, wanted, upstream = job.out, job.wanted, job.upstream
    size = sum(file.stat().st_size for file in (out / "shards").iterdir()) / 1e6
    what = [f"layers {', '.join(map(str, wanted.layers))} x {upstream.dim}, {wanted.name}"] * bool(
        wanted.layers
    )
    what += [f"clusters of layer {job.clustered}"] * (job.clustered is not None)
    period = "one vector per utterance" if wanted.pool else f"every {upstream.period * 1e3:g} ms"
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{out}: {results['utterances']:,} utterances, {'; '.join(what)}; {period}")
    left = len(results["left_out"]) + sum(results["skipped"].values())
    if left:
        console.print(f"left out: {left:,} utterances, named in {out / FACTS}")
    console.print(f"{size:,.1f} MB in {shards} shards, {speed:,.0f} audio-s/s")
