"""Methods side by side, over seeds: what each learnt of its own task, what a probe finds beyond a random encoder, the cost.

Runs that differ in `run.seed` only are one configuration. Of a run count its last validation and the newest step that
was probed, each representation on the layer that the dev utterances chose.
"""

import hashlib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from research import runs
from research.errors import HarkError, nearest
from research.evaluation.records import PRETRAINED, RANDOM

OWN = {  # what a method is good at -> what a predictor scores that has not looked at the signal
    "acc": "unigram_acc",
    "contrast_acc": "contrast_chance",
    "l1": "mean_l1",
    "mse": "target_var",
    "cer": "blank_cer",
}
COVERS = (
    "Gains are over the same encoder with random weights, on the same utterances, by seed; 95% intervals (Student's t over "
    "the seeds) cover pretraining, its random start and the probe's, but not the choice of test utterances."
)


@dataclass(frozen=True)
class Mean:
    """A mean over seeds with its confidence interval, which one seed does not have."""

    value: float
    reach: float

    @classmethod
    def of(cls, values: pd.Series, level: float = 0.95) -> "Mean":
        from scipy.stats import t  # noqa: PLC0415  slow to import

        count = len(values)
        spread = float(values.std()) / count**0.5 if count > 1 else float("nan")
        return cls(float(values.mean()), spread * float(t.ppf(0.5 + level / 2, count - 1)))

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)

    @property
    def verdict(self) -> str:
        """What it says of a difference."""
        if math.isnan(self.reach):
            return "one seed"
        if abs(self.value) <= self.reach:
            return "no difference shown"
        return "better" if self.value > 0 else "worse"

    def __format__(self, spec: str) -> str:
        if math.isnan(self.reach):
            return format(self.value, spec)
        low, high = self.value - self.reach, self.value + self.reach
        return f"{self.value:{spec}} [{low:{spec}}, {high:{spec}}]"


def scores(folder: Path, probe: str, names: Collection[str] | None = None) -> pd.DataFrame:
    """One row per run of a folder of runs (of these names, if given), whether it was probed or not.

    HarkError: there is no run.
    """
    found = sorted(path.parent for path in folder.glob("*/config.yaml"))
    rows = [row(run, probe) for run in found if names is None or run.name in names]
    if not rows:
        raise HarkError(f"{folder}: no run is here; train one, or name another folder or a sweep")
    return pd.DataFrame(rows)


def found_in(what: str, folder: Path) -> tuple[Path, Collection[str] | None]:
    """Give the folder of runs that a word means, and the names of a sweep's; HarkError when there is neither."""
    listed = folder / "sweeps" / what / "sweep.json"
    if listed.exists():
        return folder, json.loads(listed.read_text())["cells"].keys()
    if Path(what).is_dir():
        return Path(what), None
    known = [path.parent.name for path in folder.glob("sweeps/*/sweep.json")]
    raise HarkError(f"{what}: is no sweep of {folder}{nearest(what, known)}, and no folder of runs")


def row(run: Path, probe: str) -> dict[str, Any]:
    """What one run came to; what is not known is missing."""
    cfg = runs.load_config(run)
    same = runs.identity(cfg)
    del same["run"]["name"], same["run"]["seed"]
    key = hashlib.sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()
    values: dict[str, Any] = {"run": run.name, "name": cfg.run.name, "key": key, "seed": cfg.run.seed}
    values |= {"steps": cfg.train.steps, "done": runs.finished(run)}
    valid = [line for line in runs.read_jsonl(run / "metrics.jsonl") if line["split"] == "valid"]
    for own, trivial in OWN.items():
        if valid and own in valid[-1] and trivial in valid[-1]:
            values |= {"metric": own, "own": valid[-1][own], "trivial": valid[-1][trivial]}
            break
    if (run / "cost.json").exists():
        cost = json.loads((run / "cost.json").read_text())
        values |= {"minutes": 60 * cost["device_h"], "audio_h": cost["audio_h"]}
    return values | probed(run, probe)


def probed(run: Path, probe: str) -> dict[str, float]:
    """Headline of a probe: of the pretrained encoder, of random ones, and of the baseline at the encoder's rate."""
    lines = [line for line in runs.read_jsonl(run / "probes.jsonl") if line["kind"] == "score"]
    lines = [line for line in lines if line["probe"] == probe and line["headline"]]
    lines = [line for line in lines if line["step"] == max(other["step"] for other in lines)]
    found = {line["representation"]: line for line in lines if line["chosen"]}
    if not {PRETRAINED, RANDOM} <= found.keys():
        return {}
    ours, random = found[PRETRAINED], found[RANDOM]
    values = {"score": ours["mean"], "random": random["mean"], "gain": ours["mean"] - random["mean"]}
    levels = [line["mean"] for line in lines if line["layer"] is None and line["period"] == ours["period"]]
    return values | {"baseline": levels[0] if levels else math.nan}


def cells(line: pd.Series) -> list[str]:
    """One row of the table, as it is printed."""
    own = f"{line['own']:.3f} {line['metric']}" if line["metric"] else ""
    trivial, baseline = (f"{line[c].value:.3f}" if line[c].known else "" for c in ("trivial", "baseline"))
    score, gain = (f"{line[c]:.3f}" if line[c].known else "" for c in ("score", "gain"))
    random = f"{line['random'].value:.3f}" if line["random"].known else ""
    seeds = f"{line['seeds']}, {line['unfinished']} unfinished" if line["unfinished"] else str(line["seeds"])
    cost = [f"{line['audio_h'].value:.1f}", f"{line['minutes'].value:.1f}"]
    verdict = line["gain"].verdict if line["gain"].known else "not probed"
    return [line["name"], seeds, own, trivial, score, random, gain, verdict, baseline, *cost]


def compare(found: pd.DataFrame) -> pd.DataFrame:
    """One row per configuration: means over seeds, the best gain first, what was not probed last."""
    return pd.DataFrame([summary(group) for _, group in found.groupby("key", sort=False)]).sort_values(
        "gain", key=lambda gains: gains.map(lambda gain: -gain.value if gain.known else math.inf)
    )


def summary(group: pd.DataFrame) -> dict[str, Any]:
    """Runs of one configuration as one row; only finished ones are averaged, and how many there are is told."""
    columns = ("own", "trivial", "score", "random", "baseline", "gain", "minutes", "audio_h")
    group = group.reindex(columns=[*group.columns, *(c for c in ("metric", *columns) if c not in group)])
    done = group[group["done"]]
    first = group.iloc[0]
    told = {
        "name": first["name"],
        "seeds": len(done),
        "unfinished": len(group) - len(done),
        "steps": first["steps"],
    }
    told["metric"] = first["metric"] if isinstance(first["metric"], str) else ""
    return told | {column: Mean.of(done[column].dropna()) for column in columns}
