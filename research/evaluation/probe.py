"""Put mini probes to every layer: of the pretrained encoder, of random-init ones, and to baselines."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from rich.progress import Progress

from research import registry
from research.contracts import Frontend
from research.downstream import Features, Probe
from research.evaluation.command import BASELINES
from research.evaluation.features import pick
from research.evaluation.kept import Kept
from research.evaluation.records import Found, Key, Line, Setting, lines, store
from research.evaluation.representations import Representations, Subject, find, layout_of
from research.evaluation.speech import Task, gather
from research.evaluation.splits import seen
from research.evaluation.tasks import Splits, tasks


def probe(args: argparse.Namespace) -> tuple[list[Line], list[str]]:
    """Do what the command line asks, task by task; give the lines that were written, and which probes were not asked.

    HarkError: no checkpoint, probe or manifest of that name; splits that share an utterance.
    """
    registry.load_plugins()
    names = args.probe or registry.names("probe")
    probes = {name: registry.build(registry.config_of("probe", name)) for name in names}
    subject = find(args.checkpoint, args.step)
    found, left = tasks(probes, args, subject.data)
    written = []
    for splits in found:
        of_task = {name: probe for name, probe in probes.items() if probe.task == splits.task}
        named = args.baseline or [
            *BASELINES,
            *(name for probe in of_task.values() for name in probe.baselines),
        ]
        baselines = {name: registry.build(registry.config_of("frontend", name)) for name in named}
        written += store(args.out or subject.out, asked(splits, of_task, baselines, subject, args))
    return written, left


def asked(
    splits: Splits,
    probes: Mapping[str, Probe],
    baselines: Mapping[str, Frontend],
    subject: Subject,
    args: argparse.Namespace,
) -> list[Line]:
    """Ask the probes of one task; give what there is to write down."""
    drawn = splits.draw(args.sentences, args.dev, args.seeds)
    task = gather(splits, drawn, subject.upstream.sample_rate, {probe.key for probe in probes.values()})
    kept = Kept(None) if args.no_cache else Kept.here()
    compared = Representations(subject, baselines, task.speech, kept, layout_of(splits, subject.upstream))
    setting = Setting(
        checkpoint=subject.name,
        step=subject.source.step,
        train=len(drawn.train[0]),
        dev=len(drawn.dev),
        test=len(splits.test),
        seen=seen(splits.test, subject.data),
        manifests=splits.digests,
        task=splits.task,
        own_dev=splits.valid is not None,
        overlap=splits.overlap,
        facts={key: splits.facts[key] for key in ("split", "confound", "apart") if key in splits.facts},
    )
    return lines(
        ask(probes, compared, task), setting, {name for name, probe in probes.items() if probe.falls}
    )


def ask(probes: Mapping[str, Probe], compared: Representations, task: Task) -> dict[Key, Found]:
    """Run every probe on every representation under every seed, on dev and on test utterances."""
    found: dict[Key, Found] = {}
    mixes = any(plugin.mixes for plugin in probes.values())
    total = sum(compared.count(mixes=plugin.mixes) for plugin in probes.values())
    with Progress(transient=True) as bar:
        work = bar.add_task("mini probes", total=len(task.train) * total)
        for seed, rows in enumerate(task.train):
            used = rows + task.dev + task.test
            for name, layer, features in compared.under(seed, used, mixes=mixes):
                for each, plugin in probes.items():
                    if features.layers and not plugin.mixes:
                        continue
                    labels = task.speech.labels[plugin.key]
                    parts = split(
                        replace(features, labels=[labels[i] for i in used]), len(rows), len(task.dev)
                    )
                    item = found.setdefault(Key(each, name, layer, features.period), Found(features.layers))
                    item.add(plugin.run(*parts, seed), *parts)
                    bar.advance(work)
    return found


def split(features: Features, train: int, dev: int) -> tuple[Features, Features, Features]:
    """The first for training, the next for dev, the others for the test."""
    ends = (0, train, train + dev, len(features.frames))
    first, second, third = (pick(features, range(start, end)) for start, end in pairwise(ends))
    return first, second, third
