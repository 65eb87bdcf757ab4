"""Put every probe to every layer: of the pretrained encoder, of random-init ones, and to a baseline."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.progress import Progress

from research import registry, runs
from research.config import Config
from research.contracts import Features, Frontend, Objective, Probe
from research.engine.gangs import find_device
from research.engine.weights import load_model, steps
from research.errors import HarkError
from research.evaluation.features import encode, frontend_features, pick, stacked
from research.evaluation.records import PRETRAINED, RANDOM, Found, Key, Line, Setting, lines, store
from research.evaluation.speech import Speech, Task, gather
from research.evaluation.splits import digests, draw, manifests, seen
from research.model import assemble


def probe(args: argparse.Namespace) -> list[Line]:
    """Do what the command line asks, write it to RUN/probes.jsonl, and give its lines.

    HarkError: no run, checkpoint, probe or manifest of that name; a test utterance among those for training.
    """
    registry.load_plugins()
    cfg = runs.load_config(args.folder)
    names = args.probe or registry.names("probe")
    probes = {name: registry.build(registry.config_of("probe", name)) for name in names}
    baseline = registry.build(registry.config_of("frontend", args.baseline))
    step, pretrained = load_pretrained(args.folder / "checkpoints", args.step, cfg)
    train, test = manifests(args.train, args.test, cfg)
    drawn = draw(len(train), args.sentences, args.dev, args.seeds)
    task = gather(train, test, drawn, cfg.data.sample_rate)
    compared = Representations(cfg, pretrained, {args.baseline: baseline}, task.speech)
    setting = Setting(
        step=step,
        train=len(drawn.train[0]),
        dev=len(drawn.dev),
        test=len(test),
        seen=seen(test, cfg),
        manifests=digests(train, test),
    )
    written = lines(ask(probes, compared, task), setting)
    store(args.folder / "probes.jsonl", written)
    return written


def load_pretrained(folder: Path, step: int | None, cfg: Config) -> tuple[int, Objective]:
    """Give the model of a step, the newest if None, and say which step that is."""
    there = steps(folder)
    if not there or step not in (None, *there):
        known = ", ".join(map(str, there)) or "none"
        raise HarkError(f"{folder}: no checkpoint of step {step or 'any'} is here (there are: {known})")
    step = there[0] if step is None else step
    objective = assemble(cfg)
    objective.load_state_dict(load_model(folder / f"step_{step}"))
    return step, objective


class Representations:
    """Everything that is compared. What no seed changes is computed once, for all utterances."""

    def __init__(
        self, cfg: Config, pretrained: Objective, baselines: Mapping[str, Frontend], speech: Speech
    ) -> None:
        self.cfg, self.speech, self.device = cfg, speech, find_device(cfg.run.device)
        layers = self.layers_of(pretrained, speech)
        self.fixed: list[tuple[str, int | None, Features]] = []
        for name, frontend in baselines.items():
            own = frontend_features(frontend, speech)
            size = round(layers[0].period / own.period)
            self.fixed.append((name, None, own))
            if size > 1:  # the same at the encoder's own rate
                self.fixed.append((name, None, stacked(own, size)))
        self.fixed += [(PRETRAINED, layer, features) for layer, features in layers.items()]
        self.count = len(self.fixed) + len(layers)

    def layers_of(self, objective: Objective, speech: Speech) -> dict[int, Features]:
        objective = objective.to(self.device)
        return encode(objective.frontend, objective.encoder, speech, range(objective.encoder.depth + 1))

    def under(self, seed: int, rows: list[int]) -> Iterator[tuple[str, int | None, Features]]:
        """Each representation of some utterances. Every seed has a random-init encoder of its own."""
        for name, layer, features in self.fixed:
            yield name, layer, pick(features, rows)
        run = replace(self.cfg.run, seed=self.cfg.run.seed + 1 + seed)
        fresh = assemble(replace(self.cfg, run=run))
        for layer, features in self.layers_of(fresh, self.speech.pick(rows)).items():
            yield RANDOM, layer, features


def ask(probes: Mapping[str, Probe], compared: Representations, task: Task) -> dict[Key, Found]:
    """Run every probe on every representation under every seed; the answers are on dev, then test utterances."""
    found: dict[Key, Found] = {}
    with Progress(transient=True) as bar:
        work = bar.add_task("probes", total=len(task.train) * compared.count * len(probes))
        for seed, rows in enumerate(task.train):
            for name, layer, features in compared.under(seed, rows + task.dev + task.test):
                train = pick(features, range(len(rows)))
                held = pick(features, range(len(rows), len(features.frames)))
                for each, plugin in probes.items():
                    item = found.setdefault(Key(each, name, layer, features.period), Found())
                    item.answers.append(plugin.run(train, held, seed))
                    item.train_frames.append(sum(map(len, train.frames)))
                    item.test_frames = sum(map(len, held.frames[len(task.dev) :]))
                    bar.advance(work)
    return found
