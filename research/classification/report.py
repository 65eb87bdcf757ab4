"""classify.json, the table and the pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from research.classification.answers import Record, judge
from research.classification.data import Corpus, majority
from research.classification.notes import confounds
from research.classification.run import Experiment
from research.evaluation.intervals import Estimate, estimate
from research.files import write

SCHEMA = 1
COVERS = (
    "95% intervals cover the choice of test utterances, and seeds: of the head, of the order of training, of random-init "
    "weights; not another pretraining: there is one checkpoint"
)


def report(experiment: Experiment, records: Sequence[Record]) -> None:
    """Write what was found to the folder of the experiment, draw it, and print it."""
    from research.classification import pictures  # noqa: PLC0415  slow to import

    corpus, path = experiment.corpus, experiment.path
    by_name: dict[str, list[Record]] = {}
    for record in records:
        by_name.setdefault(record.representation, []).append(record)
    scores = {name: estimate([judge(one, corpus) for one in some]) for name, some in by_name.items()}
    notes = said(experiment, records)
    write(
        path / "classify.json",
        json.dumps(summary(experiment, by_name, scores, notes), indent=1, ensure_ascii=False),
    )
    if not corpus.vocabulary.tokens:
        pictures.confusion(path / "confusion.png", corpus, by_name)
    if any(record.weights for record in records):
        pictures.layer_weights(path / "layer_weights.png", by_name)
    console = Console()
    console.print(table(by_name, scores))
    for note in notes:
        console.print(note, highlight=False, soft_wrap=True)
    console.print(f"{path}: classify.json, *.png", highlight=False, soft_wrap=True)


def summary(
    experiment: Experiment,
    by_name: Mapping[str, list[Record]],
    scores: Mapping[str, Mapping[str, Estimate]],
    notes: Sequence[str],
) -> dict[str, Any]:
    cfg, corpus = experiment.cfg, experiment.corpus
    return {
        "schema": SCHEMA,
        "upstream": {"path": cfg.upstream.path, "step": cfg.upstream.step, "layers": cfg.upstream.layers},
        "label": cfg.label,
        "labels": corpus.vocabulary.names,
        "tuned_from": cfg.tune.start,
        "utterances": sizes(corpus),
        "majority": None if corpus.vocabulary.tokens else majority(corpus),
        "manifests": corpus.digests,
        "notes": list(notes),
        "scores": [
            {
                "representation": name,
                "metrics": {metric: asdict(found) for metric, found in scores[name].items()},
                "runs": [
                    {
                        key: value
                        for key, value in asdict(record).items()
                        if key not in ("answers", "manifests")
                    }
                    for record in some
                ],
            }
            for name, some in by_name.items()
        ],
    }


def table(by_name: Mapping[str, list[Record]], scores: Mapping[str, Mapping[str, Estimate]]) -> Table:
    """One row per representation."""
    metrics = list(next(iter(scores.values())))
    trials = list(dict.fromkeys(path for some in by_name.values() for path in some[0].trials))
    verified = [f"{metric} {Path(path).stem}" for path in trials for metric in ("eer", "min_dcf")]
    grid = Table("representation", *metrics, *verified, "lr", box=SIMPLE)
    for name, some in by_name.items():
        shown = [interval(scores[name][metric]) for metric in metrics]
        shown += [
            spread([one.trials[path][key] for one in some]) for path in trials for key in ("eer", "min_dcf")
        ]
        rates = ", ".join(dict.fromkeys(f"{one.lr:g}" for one in some))
        grid.add_row(name, *shown, rates)
    return grid


def interval(found: Estimate) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def spread(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def said(experiment: Experiment, records: Sequence[Record]) -> list[str]:
    """What the numbers rest on."""
    cfg, corpus = experiment.cfg, experiment.corpus
    counts = ", ".join(f"{count} {split}" for split, count in sizes(corpus).items())
    seeds = len({record.seed for record in records})
    tuned = "frozen" if cfg.tune.start is None else f"tuned from step {cfg.tune.start}"
    notes = [
        (
            f"{len(corpus.vocabulary.names)} labels of '{cfg.label}'; {counts} utterances; {seeds} seeds; encoder {tuned}; "
            "checkpoint and learning rate chosen on valid, test read once for each seed"
        ),
        *(
            []
            if corpus.vocabulary.tokens
            else [f"always giving the commonest label: acc {majority(corpus):.3f}"]
        ),
        *(f"confound: {note}" for note in confounds(corpus, cfg.confound)),
    ]
    heard = experiment.heard
    notes += [] if heard is None else [f"pretraining heard {heard} of the test utterances, without labels"]
    return [*notes, COVERS]


def sizes(corpus: Corpus) -> dict[str, int]:
    return {split: len(getattr(corpus, split)) for split in ("train", "valid", "test")}
