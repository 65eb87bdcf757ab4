"""What is written down of probes: lines of RUN/probes.jsonl, or of CHECKPOINT.probes.jsonl; schema 1.

`kind: score` is one metric of one probe on one layer of one representation: the seeds' values on the test and on the
dev utterances, the mean on the test utterances with its interval, how much speech that took, and the SHA-256 of the
manifests; `chosen` marks the layer that is best at the headline metric on the dev utterances.
`kind: comparison` sets the pretrained encoder beside the random-init one, each at its chosen layer.
A probe that is run again on the same checkpoint replaces its lines.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from research import runs
from research.downstream import Answers
from research.evaluation.intervals import estimate
from research.files import write

SCHEMA = 1
PRETRAINED, RANDOM = "pretrained", "random_init"

Line = dict[str, Any]


class Key(NamedTuple):
    """One question to one representation."""

    probe: str
    representation: str
    layer: int | None  # None: not of an encoder
    period: float  # s


@dataclass
class Found:
    """The answers, seed by seed."""

    dev: list[Answers] = field(default_factory=list)
    test: list[Answers] = field(default_factory=list)
    train_frames: list[int] = field(default_factory=list)  # per seed
    test_frames: int = 0


@dataclass(frozen=True)
class Setting:
    """What all results of one command have in common."""

    checkpoint: str  # the name of a run, the path of a foreign checkpoint
    step: int | None  # of a run
    train: int  # utterances, per seed
    dev: int
    test: int
    seen: int | None  # test utterances that pretraining heard; None: unknown
    manifests: dict[str, str]  # path -> SHA-256


def lines(found: Mapping[Key, Found], setting: Setting) -> list[Line]:
    """All scores, then the comparisons."""
    common = {
        "schema": SCHEMA,
        "checkpoint": setting.checkpoint,
        "step": setting.step,
        "manifests": setting.manifests,
    }
    written = [line for key, item in found.items() for line in scores(key, item, setting)]
    probes = list(dict.fromkeys(key.probe for key in found))
    for probe in probes:
        for name in (PRETRAINED, RANDOM):
            best = max(select(written, probe, name), key=lambda line: sum(line["dev"]))
            for line in select(written, probe, name, headline=False):
                line["chosen"] = line["layer"] == best["layer"]
    return [common | line for line in written + [comparison(written, probe) for probe in probes]]


def scores(key: Key, found: Found, setting: Setting) -> list[Line]:
    dev, test = estimate(found.dev), estimate(found.test)
    sizes = {
        "n_seeds": len(found.test),
        "n_train": {"utterances": setting.train, "frames": found.train_frames},
        "n_dev": {"utterances": setting.dev},
        "n_test": {
            "utterances": setting.test,
            "frames": found.test_frames,
            "heard_in_pretraining": setting.seen,
        },
    }
    head = {"kind": "score", **key._asdict(), "chosen": False}
    names = list(test)
    return [
        {
            **head,
            "metric": name,
            "headline": name == names[0],
            "dev": dev[name].values,
            **asdict(test[name]),
            **sizes,
        }
        for name in names
    ]


def select(written: list[Line], probe: str, representation: str, *, headline: bool = True) -> list[Line]:
    return [
        line
        for line in written
        if line["probe"] == probe
        and line["representation"] == representation
        and line["headline"] >= headline
    ]


def comparison(written: list[Line], probe: str) -> Line:
    ours, theirs = (
        next(line for line in select(written, probe, name) if line["chosen"]) for name in (PRETRAINED, RANDOM)
    )
    sides = {
        line["representation"]: {k: line[k] for k in ("layer", "mean", "low", "high")}
        for line in (ours, theirs)
    }
    apart = ours["low"] > theirs["high"] or theirs["low"] > ours["high"]
    higher = ours["mean"] > theirs["mean"]
    verdict = {"disjoint": apart, "pretrained_higher": higher}
    return {"kind": "comparison", "probe": probe, "metric": ours["metric"], **sides, **verdict}


def store(path: Path, new: list[Line]) -> None:
    """Replace what `path` says of the same probes of a checkpoint; all of the file changes, or nothing."""

    def key(line: Line) -> tuple[Any, ...]:  # lines of a run were once without its name
        return line.get("checkpoint", new[0]["checkpoint"]), line["step"], line["probe"]

    done = {key(line) for line in new}
    kept = [line for line in runs.read_jsonl(path) if key(line) not in done]
    write(path, "".join(json.dumps(line) + "\n" for line in kept + new))
