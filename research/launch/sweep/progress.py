"""How far a run is, from the ends of the files in its folder: cheap enough for hundreds of runs, again and again."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from research import runs
from research.evaluation.records import PRETRAINED
from research.launch.sweep.ledger import events
from research.launch.sweep.tail import tail
from research.training.health.record import on as alarms_on

NEAR, FAR = 1 << 16, 1 << 22  # bytes of metrics.jsonl that are read, and searched for the last validation

Record = dict[str, Any]


@dataclass(frozen=True)
class Score:
    """What the newest probe of its name found, at the layer that it chose."""

    probe: str
    metric: str
    mean: float
    low: float
    high: float
    step: int


@dataclass(frozen=True)
class Progress:
    step: int = 0
    steps: int | None = None  # of the whole run; None: nothing says so
    speed: float | None = None  # s of audio per s
    pace: float | None = None  # steps per s, validation and saving included, since it was last started
    loss: float | None = None
    valid_loss: float | None = None
    seen: float | None = None  # last sign of life: s since 1970
    scores: tuple[Score, ...] = ()
    alarms: dict[str, str] = field(default_factory=dict)  # that are on, with what they say

    def left(self, now: float) -> float | None:
        """Seconds until its last step, if it goes on as it does; None where that cannot be told."""
        if self.steps is None or not self.pace or self.seen is None:
            return None
        return max(0.0, (self.steps - self.step) / self.pace - max(0.0, now - self.seen))

    def whole(self) -> float | None:
        """Seconds that all of its steps take at this pace."""
        return self.steps / self.pace if self.steps and self.pace else None


def progress(run: Path) -> Progress:
    """Read how far a run is; what has not begun is at step 0."""
    began = [event for event in events(run, "train") if event["event"] == "began"]
    records = newest(run / "metrics.jsonl")
    train = [record for record in records if record["split"] == "train"]
    valid = [record for record in records if record["split"] == "valid"]
    steps = steps_of(run)
    done = runs.finished(run)
    last = train[-1] if train else {}
    return Progress(
        step=steps if done and steps else int(last.get("step", 0)),
        steps=steps,
        speed=last.get("audio_s_per_s"),
        pace=pace_of(train, started(run, began)),
        loss=last.get("loss"),
        valid_loss=valid[-1]["loss"] if valid else None,
        seen=max((each["time"] for each in (*records[-1:], *began[-1:])), default=None),
        scores=tuple(scores(run)),
        alarms=alarms_on(run),
    )


def newest(file: Path) -> list[Record]:
    """Give the last records of metrics.jsonl, and the last validation before them unless that was very long ago."""
    records = whole(tail(file, NEAR)[:-1])
    if not records or any(record["split"] == "valid" for record in records):
        return records
    valid = [line for line in tail(file, FAR)[:-1] if b'"split": "valid"' in line]
    return whole(valid[-1:]) + records


def whole(lines: Sequence[bytes]) -> list[Record]:
    """Read lines, but for those that were cut off."""
    return [record for record in runs.objects(b"\n".join(lines)) if record is not None]


def started(run: Path, began: Sequence[Record]) -> float:
    """When it was last started: s since 1970. Without jobs, whoever trains a run opens its lock first."""
    if began:
        return float(began[-1]["time"])
    lock = run / "lock"
    return lock.stat().st_mtime if lock.exists() else 0.0


def pace_of(train: Iterable[Record], since: float) -> float | None:
    """Steps per second between records of this start; None before there are two."""
    own = [record for record in train if record["time"] >= since]
    if len(own) < 2 or own[-1]["time"] <= own[0]["time"]:
        return None
    return float((own[-1]["step"] - own[0]["step"]) / (own[-1]["time"] - own[0]["time"]))


def steps_of(run: Path) -> int | None:
    file = run / "config.yaml"
    return read_steps(file) if file.exists() else None


@cache
def read_steps(file: Path) -> int:
    """Read `train.steps`; a run's config never changes."""
    return int(yaml.load(file.read_text(), Loader=yaml.CSafeLoader)["train"]["steps"])


def scores(run: Path) -> list[Score]:
    """Give the pretrained encoder's headline score of every probe, newest step only."""
    found: dict[str, Score] = {}
    for line in runs.read_jsonl(run / "probes.jsonl"):
        if (
            line["kind"] == "score"
            and line["representation"] == PRETRAINED
            and line["chosen"]
            and line["headline"]
        ):
            score = Score(*(line[key] for key in ("probe", "metric", "mean", "low", "high", "step")))
            if score.probe not in found or score.step >= found[score.probe].step:
                found[score.probe] = score
    return list(found.values())
