"""What is written down of mini probes: lines of RUN/probes.jsonl, or of CHECKPOINT.probes.jsonl; schema 1.

`kind: score` is one metric of one probe on one layer of one representation: the seeds' values on the test and on the
dev utterances, the mean on the test utterances with its interval, how much speech that took, and the SHA-256 of the
manifests; `chosen` marks the layer that is best at the headline metric on the dev utterances, `falls` says that lower
is better, `chosen_settings` what each seed chose on dev, `learned_weights` how much of each layer a weighted sum took.
`test_reads` counts the commands that have asked these test utterances of this checkpoint, as far as the file knows.
`kind: comparison` sets the pretrained encoder beside the random-init one, each at its chosen layer.
A probe that is run again on the same checkpoint replaces its lines.
"""

import fcntl
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from research import runs
from research.downstream import Answers, Features
from research.evaluation.intervals import estimate
from research.files import write

SCHEMA = 1
PRETRAINED, RANDOM, WEIGHTED = "pretrained", "random_init", "weighted_sum"
MEANING = "learned weights, not importance"

Line = dict[str, Any]


class Key(NamedTuple):
    """One question to one representation."""

    probe: str
    representation: str
    layer: int | None  # None: not of an encoder, or of several layers
    period: float  # s


@dataclass
class Found:
    """The answers, seed by seed."""

    layers: tuple[int, ...] = ()  # of a weighted sum
    dev: list[Answers] = field(default_factory=list)
    test: list[Answers] = field(default_factory=list)
    train_frames: list[int] = field(default_factory=list)  # per seed
    test_frames: int = 0

    def add(self, answers: tuple[Answers, Answers], train: Features, _: Features, test: Features) -> None:
        self.dev.append(answers[0])
        self.test.append(answers[1])
        self.train_frames.append(sum(map(len, train.frames)))
        self.test_frames = sum(map(len, test.frames))


@dataclass(frozen=True)
class Setting:
    """What all results of one task have in common."""

    checkpoint: str  # the name of a run, the path of a foreign checkpoint
    step: int | None  # of a run
    train: int  # utterances, per seed
    dev: int
    test: int
    seen: int | None  # test utterances that pretraining heard; None: unknown
    manifests: dict[str, str]  # path -> SHA-256, the test's last
    task: str = "phones"
    own_dev: bool = False  # dev has a manifest of its own
    overlap: dict[str, list[int]] = field(default_factory=dict)  # key -> values of the test: in training, all
    facts: dict[str, Any] = field(default_factory=dict)  # how the task was split


def lines(found: Mapping[Key, Found], setting: Setting, falls: Collection[str] = ()) -> list[Line]:
    """All scores, then the comparisons; of the probes in `falls`, the lowest score is the best."""
    common = {
        "schema": SCHEMA,
        "checkpoint": setting.checkpoint,
        "step": setting.step,
        "manifests": setting.manifests,
        "task": setting.task,
    }
    written = [
        line | {"falls": key.probe in falls}
        for key, item in found.items()
        for line in scores(key, item, setting)
    ]
    probes = list(dict.fromkeys(key.probe for key in found))
    for probe in probes:
        sign = -1 if probe in falls else 1
        for name in (PRETRAINED, RANDOM):
            best = max(select(written, probe, name), key=lambda line: sign * sum(line["dev"]))
            for line in select(written, probe, name, headline=False):
                line["chosen"] = line["layer"] == best["layer"]
    return [common | line for line in written + [comparison(written, probe) for probe in probes]]


def scores(key: Key, found: Found, setting: Setting) -> list[Line]:
    dev, test = estimate(found.dev), estimate(found.test)
    head: Line = {"kind": "score", **key._asdict(), "chosen": False}
    tail: Line = {
        "n_seeds": len(found.test),
        "n_train": {"utterances": setting.train, "frames": found.train_frames},
        "n_dev": {"utterances": setting.dev, "manifest": setting.own_dev},
        "n_test": {
            "utterances": setting.test,
            "frames": found.test_frames,
            "heard_in_pretraining": setting.seen,
            "in_training": setting.overlap,
        },
        "split": setting.facts,
    }
    if settings := found.test[0].chosen:
        tail["chosen_settings"] = {name: [each.chosen[name] for each in found.test] for name in settings}
    if weights := [each.weights for each in found.test if each.weights]:
        mean = [sum(values) / len(values) for values in zip(*weights, strict=True)]
        told = {"meaning": MEANING, "layers": list(found.layers), "mean": mean, "values": weights}
        tail["learned_weights"] = told
    names = list(test)
    return [
        {
            **head,
            "metric": name,
            "headline": name == names[0],
            "dev": dev[name].values if name in dev else [],  # of one speaker it lacks what takes several
            **asdict(test[name]),
            **tail,
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
    better = ours["mean"] < theirs["mean"] if ours["falls"] else higher
    verdict = {"disjoint": apart, "pretrained_higher": higher, "pretrained_better": better}
    head = {"kind": "comparison", "probe": probe, "metric": ours["metric"], "falls": ours["falls"]}
    return {**head, **sides, **verdict}


def store(path: Path, new: list[Line]) -> list[Line]:
    """Replace what `path` says of the same probes of a checkpoint; all of the file changes, or nothing.

    Gives the lines with how often their test utterances have been asked.
    """

    def of(line: Line) -> tuple[Any, ...]:  # lines of a run were once without its name
        return line.get("checkpoint", new[0]["checkpoint"]), line["step"]

    done = {(*of(line), line["probe"]) for line in new}
    with alone(path):
        old = list(runs.read_jsonl(path))
        counts = reads([line for line in old if of(line) == of(new[0])])
        test = asked(new[0])
        counts[test] = counts.get(test, 0) + 1
        new = [line | {"test_reads": counts[test], "reads": counts} for line in new]
        kept = [line for line in old if (*of(line), line["probe"]) not in done]
        write(path, "".join(json.dumps(line) + "\n" for line in kept + new))
    return new


def reads(old: list[Line]) -> dict[str, int]:
    """SHA-256 of a test manifest -> commands that asked it; lines that were written before this was counted are one."""
    counts: dict[str, int] = {}
    for line in old:
        for test, count in line.get("reads", {asked(line): 1}).items():
            counts[test] = max(count, counts.get(test, 0))
    return counts


def asked(line: Line) -> str:
    """SHA-256 of its test manifest, which is the last."""
    return next(reversed(line["manifests"].values()), "")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Wait until no other process writes to a file: jobs may probe several steps of a run at once."""
    with open(path.with_name(f"{path.name}.lock"), "w") as file:
        with suppress(OSError):  # a file system without locks
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield
