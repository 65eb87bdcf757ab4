"""Everything that probes compare: layers of a checkpoint, of random-init encoders, and baselines without weights."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from research.config import Data, Run
from research.contracts import Frontend
from research.data.features import Layout, layout
from research.downstream import Features
from research.engine.gangs import find_device
from research.errors import HarkError
from research.evaluation.extract_job import digest
from research.evaluation.features import mixed, pick, stacked, stored
from research.evaluation.kept import Kept
from research.evaluation.records import PRETRAINED, RANDOM, WEIGHTED
from research.evaluation.speech import Speech
from research.evaluation.tasks import Splits, name
from research.interop import hark_run
from research.interop.load import open_upstream, read
from research.interop.source import Source
from research.model import Upstream, build_upstream


@dataclass
class Subject:
    """A checkpoint that is asked, and what its run knows of itself if it is of one."""

    source: Source
    upstream: Upstream
    name: str
    out: Path
    data: Data = field(default_factory=Data)
    run: Run = field(default_factory=Run)

    def fresh(self, seed: int) -> Upstream:
        """The same frontend and encoder, randomly initialised: unlike any pretraining's start, for every run anew."""
        place = repr((RANDOM, self.run.seed, seed)).encode()  # a sum of the seeds would be that of others too
        torch.manual_seed(int.from_bytes(hashlib.blake2b(place, digest_size=8).digest()) >> 1)
        return build_upstream(self.source.frontend, self.source.encoder)


def find(path: Path, step: int | None) -> Subject:
    """Open a checkpoint, of a run that of a step, the newest good one if None."""
    source = read(path, step)
    upstream = open_upstream(source)
    cfg = hark_run.pretraining(path)
    if cfg is None:
        return Subject(source, upstream, str(path), path.with_name(f"{path.name}.probes.jsonl"))
    folder, _ = hark_run.located(path)
    return Subject(source, upstream, folder.name, folder / "probes.jsonl", cfg.data, cfg.run)


def layout_of(splits: Splits, upstream: Upstream) -> Layout | None:
    """Give the layout of stored features; None when the manifests are of audio. HarkError: they serve no probe."""
    first = splits.train
    if not any(manifest.stored for manifest in splits.all):
        return None
    found = layout(first)
    for manifest in splits.all:
        if layout(manifest) != found:
            raise HarkError(f"{name(manifest)}: holds other features than {name(first)}; extract both alike")
        if found.weights != digest(upstream):
            raise HarkError(f"{name(manifest)}: holds features of another model; extract them from this one")
        if found.pool:
            raise HarkError(
                f"{name(manifest)}: holds one vector per utterance; probes ask frames, extract without --pool"
            )
    return found


class Representation(NamedTuple):
    name: str
    layer: int | None  # None: it is none of an encoder's
    features: Features


class Representations:
    """All that is compared on some speech. What no seed changes is computed once, for all utterances."""

    def __init__(
        self,
        subject: Subject,
        baselines: Mapping[str, Frontend],
        speech: Speech,
        kept: Kept,
        layout: Layout | None = None,
    ) -> None:
        self.subject, self.speech, self.kept = subject, speech, kept
        self.device = find_device(subject.run.device)
        upstream = subject.upstream.to(self.device)
        self.layers = stored(layout, speech) if layout else kept.encode(upstream, speech)
        for layer, features in self.layers.items():
            check(f"{PRETRAINED} layer {layer}", features, speech)
        self.baselines: list[Representation] = []
        for name_of, frontend in baselines.items():
            own = kept.frontend(frontend, speech)
            check(name_of, own, speech)
            size = round(upstream.period / own.period)
            self.baselines.append(Representation(name_of, None, own))
            if size > 1:  # the same at the encoder's own rate
                self.baselines.append(Representation(name_of, None, stacked(own, size)))

    def count(self, *, mixes: bool) -> int:
        """How many a probe is put to under a seed."""
        return len(self.baselines) + 2 * (len(self.layers) + mixes)

    def under(self, seed: int, rows: Sequence[int], *, mixes: bool) -> Iterator[Representation]:
        """Each representation of some utterances. Every seed has a random-init encoder of its own."""
        for each in self.baselines:
            yield each._replace(features=pick(each.features, rows))
        yield from several(
            PRETRAINED, {layer: pick(f, rows) for layer, f in self.layers.items()}, WEIGHTED, mixes
        )
        fresh = self.subject.fresh(seed).to(self.device)
        speech = self.speech.pick(rows)
        found = self.kept.encode(fresh, speech, list(self.layers))
        for layer, features in found.items():
            check(f"{RANDOM} layer {layer}", features, speech)
        yield from several(RANDOM, found, f"{RANDOM}_{WEIGHTED}", mixes)


def check(name: str, features: Features, speech: Speech) -> None:
    """HarkError when frames are not finite: whatever is compared with NaN is false, which probes take for an answer."""
    for i, x in enumerate(features.frames):
        if not x.isfinite().all():
            where = speech.places[i] if speech.places else f"utterance {i}"
            raise HarkError(
                f"{where}: {name} makes frames of it that are NaN or infinite; leave it out if its audio is broken, "
                "else probe another step or checkpoint (or extract again, where features are stored)"
            )


def several(one: str, layers: Mapping[int, Features], all_: str, mixes: bool) -> Iterator[Representation]:  # noqa: FBT001
    for layer, features in layers.items():
        yield Representation(one, layer, features)
    if mixes:
        yield Representation(all_, None, mixed(layers))
