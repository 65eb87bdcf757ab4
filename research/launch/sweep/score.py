"""What a search reads in run folders: the metric, by step, and how runs came to their end."""

import json
import math
from enum import Enum
from pathlib import Path

from research import registry, runs
from research.errors import HarkError, nearest
from research.evaluation.records import PRETRAINED
from research.launch.sweep import ledger

SPLITS = ("train", "valid", "probe")


class Fate(Enum):
    """What became of a run, as far as its folder says."""

    open = "open"  # it can still come to a value
    scored = "scored"
    pruned = "pruned"
    failed = "failed"  # too often to be started again, stopped by an alarm, or without a finite value


def check_metric(metric: str) -> None:
    """HarkError unless it reads train/loss, valid/loss or probe/NAME. The plugins must be loaded."""
    split, _, name = metric.partition("/")
    if split not in SPLITS or not name:
        raise HarkError(f"search: metric: {metric}: write valid/loss, train/loss or probe/NAME")
    if split == "probe" and name not in (known := registry.names("probe")):
        raise HarkError(
            f"search: metric: no probe is called '{name}'{nearest(name, known)} (there are: {known})"
        )


def series(run: Path, metric: str) -> dict[int, float]:
    """Give a metric by step, as far as it is known; of a probe, its headline score on the layer that it chose."""
    split, _, name = metric.partition("/")
    if split != "probe":
        lines = [line for line in runs.read_jsonl(run / "metrics.jsonl") if line["split"] == split]
        return {line["step"]: line[name] for line in lines if name in line}
    return {
        line["step"]: line["mean"]
        for line in runs.read_jsonl(run / "probes.jsonl")
        if line["kind"] == "score"
        and (line["probe"], line["representation"]) == (name, PRETRAINED)
        and line["headline"]
        and line["chosen"]
    }


def fate(run: Path, metric: str, tries: int) -> tuple[Fate, float]:
    """What became of a run, and its value at the last step. HarkError when it never measured such a metric."""
    split = metric.partition("/")[0]
    if runs.finished(run):
        found = results(run, metric)
        if found:
            value = found[max(found)]
            return (Fate.scored if math.isfinite(value) else Fate.failed), value
        if split != "probe":
            raise HarkError(f"{run}: measured no {metric}, which the search is about; {known(run, split)}")
    if last_outcome(run, "train") == "pruned":
        return Fate.pruned, math.nan
    kinds = ("train", "probe") if split == "probe" else ("train",)
    over = any(gave_up(run, kind, tries) for kind in kinds) or last_outcome(run, "train") == "alarmed"
    return (Fate.failed if over else Fate.open), math.nan


def results(run: Path, metric: str) -> dict[int, float]:
    """As `series`, of a finished run; of a probe, only what is no probe on the way."""
    found = series(run, metric)
    if not metric.startswith("probe/"):
        return found
    if "probe" in ledger.kinds(run) and last_outcome(run, "probe") != "done":
        return {}  # what is there of the last step may be of fewer seeds
    last = json.loads((run / "done.json").read_text())["steps"]
    return {step: value for step, value in found.items() if step == last}


def known(run: Path, split: str) -> str:
    names = {key for line in runs.read_jsonl(run / "metrics.jsonl") if line["split"] == split for key in line}
    found = sorted(names - {"schema", "step", "split", "time"})
    return (
        f"there are: {', '.join(f'{split}/{name}' for name in found)}" if found else f"is data.{split} empty?"
    )


def last_outcome(run: Path, kind: str) -> str:
    """How the last job of a run ended for good; "" while it may go on."""
    events = ledger.events(run, kind)
    ends = [event for event in events if event["event"] in ("queued", "began", "ended", "retried")]
    return str(ends[-1]["outcome"]) if ends and ledger.ended_for_good(ends[-1]) else ""


def gave_up(run: Path, kind: str, tries: int) -> bool:
    """Whether it ended the same way so often that it is not started again."""
    return last_outcome(run, kind) == "failed" and ledger.same_errors(ledger.events(run, kind)) >= tries
