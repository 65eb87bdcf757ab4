"""What a frame needs of one run folder: plain values, and in words what is wrong with it. No scheduler is asked.

A damaged line is left out, and so is one of another schema; a number that is not finite stays what it is. All are
told in `problems`.
"""

import hashlib
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

from research import runs
from research.analysis import probed, reading
from research.analysis.probed import number
from research.analysis.reading import Line, flat, lines, mapping, typed
from research.launch.sweep import ledger
from research.launch.sweep.standing import Standing, ended

FIRST, LAST = ("config.yaml", "overrides.yaml", "code.json"), ("metrics.jsonl", "cost.json")
FILES = (*FIRST, *LAST, "probes.jsonl", "data.json", "alarms.jsonl", "done.json", "jobs.jsonl")
COSTS = ("wall_s", "device_h", "audio_h", "energy_kwh")
SPLITS = ("train", "valid")
NEEDS = {"step": int, "split": str}  # of a line of metrics.jsonl
FACTS = ("schema", "step", "split", "time")  # what is no metric there


class Digest(msgspec.Struct):
    """One run, or a cell of a sweep that has no run yet."""

    run: str
    path: str
    state: str = "missing"
    typed: dict[str, str] = {}  # override -> its value as it was typed
    config: dict[str, Any] = {}  # dotted key -> value; a plugin's kind -> its name
    commit: str = ""
    diff: str = ""  # hash of the working tree's against it
    schema: int = 0  # of metrics.jsonl; 0: it says nothing
    step: int = 0  # that was logged last
    values: dict[str, float] = {}  # column -> number
    falls: list[str] = []  # probes of which less is better
    asked: dict[str, str] = {}  # probe -> hash of the manifests that it was asked on
    alarms: list[str] = []  # that ever went on
    problems: list[str] = []


def digest(run: Path) -> Digest:
    """Read a run folder; whatever is wrong with it is told, not raised."""
    try:
        return whole(run)
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        return Digest(run.name, str(run), "unreadable", problems=[f"{type(error).__name__}: {error}"])


def whole(run: Path) -> Digest:
    """Read a run folder whose files hold what they should, as far as they hold anything."""
    done = runs.finished(run)
    told = [f"{name} is missing" for name in (*FIRST, *LAST * done) if not (run / name).exists()]
    config = mapping(run / "config.yaml", told)
    plugins = config.pop("plugins", {})
    config = dict(flat(config)) | plugins
    found = Digest(run.name, str(run), state_of(run, told, done=done), config=config, problems=told)
    found.typed = typed(reading.values(run / "overrides.yaml", told) or [])
    code, cost = mapping(run / "code.json", told), mapping(run / "cost.json", told)
    found.commit = code.get("commit", "")
    found.diff = hashlib.sha256(code["diff"].encode()).hexdigest()[:10] if code.get("diff") else ""
    found.values = {name: finite(number(cost[name])) for name in COSTS if name in cost}
    add_metrics(found, run, done=done)
    steps = int(config.get("train.steps") or 0) if done else 0
    if 0 < found.step < steps:
        told.append(f"metrics.jsonl ends at step {found.step} of {steps}")
    probes = lines(run / "probes.jsonl", told, needs=probed.NEEDS, whole=True)
    scores = probed.scores(probes, steps, told)
    found.values |= {name: finite(score) for name, score in scores.values.items()}
    found.falls, found.asked = scores.falls, scores.asked
    events = lines(run / "alarms.jsonl", told, needs={"alarm": str, "event": str}, whole=done)
    found.alarms = list(dict.fromkeys(event["alarm"] for event in events if event["event"] == "on"))
    return found


def state_of(run: Path, told: list[str], *, done: bool) -> str:
    """done, failed, or another end that its jobs noted; unfinished: what it is now, only a scheduler could say."""
    ends = {}
    for kind in ("train", "probe"):
        if last := ledger.submission(ledger.events(run, kind)):
            standing, reason = ended(last, None)
            ends[kind] = standing
            if standing is Standing.failed and not (done and kind == "train"):
                told.append(f"{kind} failed ({reason})")
    if done:
        return Standing.done.value
    ended_as = ends.get("train", Standing.lost)
    return "unfinished" if ended_as is Standing.lost else ended_as.value


def add_metrics(found: Digest, run: Path, *, done: bool) -> None:
    """Give the last value of every metric, training's and validation's, and tell where one was not finite."""
    logged = lines(run / "metrics.jsonl", found.problems, needs=NEEDS, whole=done)
    found.schema = max((line.get("schema", 0) for line in logged), default=0)
    found.step = max((line["step"] for line in logged), default=0)
    wrong: dict[str, list[int]] = defaultdict(list)  # metric -> steps
    for line in logged:
        split = line["split"]
        for name, value in metrics(line).items():
            good = math.isfinite(value)
            if split in SPLITS:
                found.values[f"{split}/{name}"] = value if good else math.nan
            if not good:
                wrong[f"{split}/{name}"].append(line["step"])
    found.problems += [
        f"{name} is not finite at {len(steps)} steps, first {steps[0]}" for name, steps in wrong.items()
    ]


def metrics(line: Line) -> dict[str, float]:
    """Metrics of a line of metrics.jsonl; what is no number is NaN."""
    return {name: number(value) for name, value in line.items() if name not in FACTS}


def finite(value: float) -> float:
    """NaN for what cannot be averaged."""
    return value if math.isfinite(value) else math.nan
