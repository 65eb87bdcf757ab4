"""Put every probe to every layer: of the pretrained encoder, of random-init ones, and to a baseline."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.progress import Progress

from research import registry
from research.config import Data, Run
from research.contracts import Frontend
from research.data.features import Layout, layout
from research.data.manifest import Manifest
from research.downstream import Features, Probe
from research.engine.gangs import find_device
from research.errors import HarkError
from research.evaluation.extract_job import digest
from research.evaluation.features import encode, frontend_features, pick, stacked, stored
from research.evaluation.records import PRETRAINED, RANDOM, Found, Key, Line, Setting, lines, store
from research.evaluation.speech import Speech, Task, gather
from research.evaluation.splits import digests, draw, manifests, seen
from research.interop import hark_run
from research.interop.load import open_upstream, read
from research.interop.source import Source
from research.model import Upstream, build_upstream


def probe(args: argparse.Namespace) -> list[Line]:
    """Do what the command line asks, write it down, and give its lines.

    HarkError: no checkpoint, probe or manifest of that name; a test utterance among those for training.
    """
    registry.load_plugins()
    names = args.probe or registry.names("probe")
    probes = {name: registry.build(registry.config_of("probe", name)) for name in names}
    baseline = registry.build(registry.config_of("frontend", args.baseline))
    subject = find(args.checkpoint, args.step)
    train, test = manifests(args.train, args.test, subject.data)
    drawn = draw(len(train), args.sentences, args.dev, args.seeds)
    task = gather(train, test, drawn, subject.upstream.sample_rate)
    kept = layout_of(train, test, subject.upstream)
    compared = Representations(subject, {args.baseline: baseline}, task.speech, kept)
    setting = Setting(
        checkpoint=subject.name,
        step=subject.source.step,
        train=len(drawn.train[0]),
        dev=len(drawn.dev),
        test=len(test),
        seen=seen(test, subject.data),
        manifests=digests(train, test),
    )
    written = lines(ask(probes, compared, task), setting)
    store(args.out or subject.out, written)
    return written


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
        """The same frontend and encoder, randomly initialised otherwise than the checkpoint was."""
        torch.manual_seed(self.run.seed + 1 + seed)
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


def layout_of(train: Manifest, test: Manifest, upstream: Upstream) -> Layout | None:
    """Give the layout of stored features; None when the manifests are of audio. HarkError: they serve no probe."""
    if not (train.stored or test.stored):
        return None
    found = layout(train)
    for manifest in (train, test):
        path = manifest.sources[0].path
        if layout(manifest) != found:
            raise HarkError(f"{path}: holds other features than {train.sources[0].path}; extract both alike")
        if found.weights != digest(upstream):
            raise HarkError(f"{path}: holds features of another model; extract them from this one")
        if found.pool:
            raise HarkError(
                f"{path}: holds one vector per utterance; probes ask frames, extract without --pool"
            )
    return found


class Representations:
    """Everything that is compared. What no seed changes is computed once, for all utterances."""

    def __init__(
        self, subject: Subject, baselines: Mapping[str, Frontend], speech: Speech, kept: Layout | None = None
    ) -> None:
        self.subject, self.speech, self.device = subject, speech, find_device(subject.run.device)
        layers = stored(kept, speech) if kept else encode(subject.upstream.to(self.device), speech)
        self.layers = list(layers)
        self.fixed: list[tuple[str, int | None, Features]] = []
        for name, frontend in baselines.items():
            own = frontend_features(frontend, speech)
            size = round(subject.upstream.period / own.period)
            self.fixed.append((name, None, own))
            if size > 1:  # the same at the encoder's own rate
                self.fixed.append((name, None, stacked(own, size)))
        self.fixed += [(PRETRAINED, layer, features) for layer, features in layers.items()]
        self.count = len(self.fixed) + len(layers)

    def under(self, seed: int, rows: list[int]) -> Iterator[tuple[str, int | None, Features]]:
        """Each representation of some utterances. Every seed has a random-init encoder of its own."""
        for name, layer, features in self.fixed:
            yield name, layer, pick(features, rows)
        fresh = self.subject.fresh(seed).to(self.device)
        for layer, features in encode(fresh, self.speech.pick(rows), self.layers).items():
            yield RANDOM, layer, features


def ask(probes: Mapping[str, Probe], compared: Representations, task: Task) -> dict[Key, Found]:
    """Run every probe on every representation under every seed on dev and on test utterances."""
    found: dict[Key, Found] = {}
    with Progress(transient=True) as bar:
        work = bar.add_task("probes", total=len(task.train) * compared.count * len(probes))
        for seed, rows in enumerate(task.train):
            for name, layer, features in compared.under(seed, rows + task.dev + task.test):
                train = pick(features, range(len(rows)))
                dev = pick(features, range(len(rows), len(rows) + len(task.dev)))
                test = pick(features, range(len(rows) + len(task.dev), len(features.frames)))
                for each, plugin in probes.items():
                    item = found.setdefault(Key(each, name, layer, features.period), Found())
                    held, answers = plugin.run(train, dev, test, seed)
                    item.dev.append(held)
                    item.test.append(answers)
                    item.train_frames.append(sum(map(len, train.frames)))
                    item.test_frames = sum(map(len, test.frames))
                    bar.advance(work)
    return found
