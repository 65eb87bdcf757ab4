"""Which manifests the probes of a command ask, and whether anything in them would flatter the scores.

FOLDER/TASK_train.jsonl, TASK_valid.jsonl (where there is none, part of train is dev), TASK_test.jsonl
FOLDER/TASK.json   where there is one: `sha256` of these files by name; `split`, `confound`: text that is told;
                   `apart`: keys of lines, e.g. [speaker]; no value of the test's may be in train or valid
"""

import json
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from research.config import Data
from research.data.manifest import Manifest, load
from research.downstream import Probe
from research.errors import HarkError
from research.evaluation.splits import Draw, digests, draw, draw_beside, shared, values

OWN = ("train", "valid", "test")  # options that name manifests of one task
DRAWN, GIVEN = 30, 200  # utterances for dev: out of train, at most of a manifest of its own
TOLD = ("speaker", "text")  # keys of lines; what the test shares with training is told


@dataclass(frozen=True)
class Splits:
    """The manifests of one task."""

    task: str
    train: Manifest
    test: Manifest
    valid: Manifest | None = None
    facts: dict[str, Any] = field(default_factory=dict)  # of TASK.json

    @property
    def all(self) -> list[Manifest]:
        return [self.train, *([self.valid] if self.valid else []), self.test]

    @cached_property
    def digests(self) -> dict[str, str]:
        """Path -> SHA-256, the test's last."""
        return digests(*self.all)

    def draw(self, sentences: int, dev: int | None, seeds: int) -> Draw:
        if self.valid is None:
            return draw(len(self.train), sentences, dev or DRAWN, seeds)
        return draw_beside(len(self.train), len(self.valid), sentences, dev or GIVEN, seeds)

    def check(self) -> None:
        """HarkError when two of them share an utterance, or what is to be apart is not."""
        train, *_, test = self.all
        pairs = (
            [(test, train)]
            if self.valid is None
            else [(test, train), (test, self.valid), (self.valid, train)]
        )
        for some, others in pairs:
            if leaked := shared(some, others):
                told = f"{len(leaked)} utterances are in {name(others)} too, the first is '{leaked[0]}'"
                raise HarkError(f"{name(some)}: {told}; leave them out")
        for manifest in self.all:
            known = self.facts.get("sha256", {}).get(name(manifest).name)
            if known not in (None, self.digests[str(name(manifest))]):
                raise HarkError(
                    f"{name(manifest)}: is not the file that {self.task}.json tells of (another SHA-256); prepare the "
                    "tasks of this folder again"
                )
        for key in self.facts.get("apart", ()):
            self.check_apart(key)

    def check_apart(self, key: str) -> None:
        asked = set(values(self.test, key))
        if "" in asked:
            raise HarkError(
                f"{name(self.test)}: has lines without '{key}', by which it is to be apart from training"
            )
        for others in self.all[:-1]:
            if both := sorted(asked.intersection(values(others, key))):
                raise HarkError(
                    f"{name(self.test)}: {len(both)} of its values of '{key}' are in {name(others)} too, the first is "
                    f"'{both[0]}'; {self.task}.json says that they are apart"
                )

    @cached_property
    def overlap(self) -> dict[str, list[int]]:
        """Key of lines -> how many values of the test are in training too, and how many it has."""
        found = {}
        for key in TOLD:
            if asked := set(values(self.test, key)) - {""}:
                found[key] = [len(asked.intersection(values(self.train, key))), len(asked)]
        return found


def name(manifest: Manifest) -> Path:
    return manifest.sources[0].path


def tasks(probes: Mapping[str, Probe], args: Namespace, data: Data) -> tuple[list[Splits], list[str]]:
    """Find the manifests of all tasks; and say which probes are not asked, for there are none.

    HarkError: none is there for a probe that was asked for by name, or for any; `Splits.check`.
    """
    own = {option: path for option in OWN if (path := getattr(args, option))}
    wanted = list(dict.fromkeys(probe.task for probe in probes.values()))
    if own and not args.probe:
        wanted = [Probe.task]
    if own and len(wanted) > 1:
        told = f"the manifests of one task, but --probe names probes of {', '.join(wanted)}"
        raise HarkError(f"--{next(iter(own))}: names {told}; ask them one by one")
    folder = args.data or Path(data.train[0] if data.train else "unknown").parent
    found, left = list[Splits](), list[str]()
    for task in wanted:
        paths = located(task, folder, own)
        if missing := [path for path in paths.values() if not path.exists()]:
            if args.probe or own:
                raise HarkError(absent(missing[0], folder))
            names = ", ".join(each for each, probe in probes.items() if probe.task == task)
            left.append(f"not asked: {names}: {absent(missing[0], folder)}")
            continue
        manifests = {split: load([path], data) for split, path in paths.items()}
        found.append(Splits(task, **manifests, facts={} if own else facts(folder / f"{task}.json")))
        found[-1].check()
    if not found:
        raise HarkError(left[0].removeprefix("not asked: "))
    return found, left


def located(task: str, folder: Path, own: Mapping[str, Path]) -> dict[str, Path]:
    """Split -> manifest; a dev split is there only if it was named, or lies beside what was not."""
    paths = {split: own.get(split, folder / f"{task}_{split}.jsonl") for split in OWN}
    if "valid" not in own and ("train" in own or not paths["valid"].exists()):
        del paths["valid"]
    return paths


def absent(path: Path, folder: Path) -> str:
    return f"{path}: no such manifest; `hark prepare tasks {folder}` makes what a prepared corpus can hold, or name one"


def facts(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}
