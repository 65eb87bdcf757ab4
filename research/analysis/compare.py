"""Configurations side by side, over seeds: what each learnt of its own task, what a probe finds beyond a random encoder, the cost.

Of a run count its last validation and the newest step that was probed, each representation on the layer that the dev
utterances chose.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from research.analysis.design import design
from research.analysis.labels import level as configured
from research.analysis.left_out import named
from research.analysis.paired import paired
from research.analysis.verdict import judge
from research.errors import HarkError, nearest
from research.evaluation.records import PRETRAINED, RANDOM

OWN = {  # what a method is good at -> what a predictor scores that has not looked at the signal
    "acc": "unigram_acc",
    "contrast_acc": "contrast_chance",
    "l1": "mean_l1",
    "mse": "target_var",
    "cer": "blank_cer",
}
SIDES = (PRETRAINED, RANDOM, "gain")
UNASKED = "not probed"
COVERS = (
    "Gains are over the same encoder with random weights, on the same utterances, by seed; 95% intervals (Student's t over "
    "the seeds, from 20 on a bootstrap) cover pretraining, its random start and the random encoders, but not the choice of "
    "training and test utterances, nor what the probe draws: all runs share them. Verdicts are corrected by Holm over the "
    "rows; those that lack seeds say how many would show the gain that is seen 4 times in 5."
)


def compare(frame: pd.DataFrame, probe: str = "phone_frames", level: float = 0.95) -> pd.DataFrame:
    """One row per configuration of a frame of `frame.runs`: the best gain first, what was not probed last.

    name, seeds (finished runs), metric (its own), then means over seeds, each with NAME_low and NAME_high: own, trivial,
    pretrained, random_init, baseline (of the probe), audio_h, device_h; then gain with low, high, p_holm, needed,
    better and verdict (see verdict.py), and left_out: runs without a part in it.
    HarkError: other probes were run, but not this one.
    """
    runs, factors = laid_out(frame, probe)
    groups = runs.groupby(factors, sort=False) if factors else [((), runs)]
    names = {key: title(runs, group, dict(zip(factors, key, strict=True))) for key, group in groups}
    rows = [
        {"name": names[key], "left_out": left_out(group)} | means(group, probe, level)
        for key, group in groups
    ]
    gains = [group.loc[group["told"] == "", f"probe/{probe}/gain"].to_numpy(float) for _, group in groups]
    judged = judge([paired(each, level) for each in gains], 1, level)
    judged = judged.rename(columns={"seeds": "probed", "difference": "gain"})
    judged["verdict"] = judged["verdict"].where(judged["probed"] > 0, UNASKED)
    table = pd.DataFrame(rows).join(judged)
    return table.sort_values("gain", ascending=False, na_position="last", ignore_index=True)


def laid_out(frame: pd.DataFrame, probe: str) -> tuple[pd.DataFrame, list[str]]:
    """Give the runs with what is told of those that do not count, and the factors that part them."""
    asked = {column.split("/")[1] for column in map(str, frame) if column.startswith("probe/")}
    if asked and probe not in asked:
        raise HarkError(
            f"--probe {probe}: no run was asked this{nearest(probe, asked)}; there is {', '.join(asked)}"
        )
    column = f"probe/{probe}/gain"
    found = design(frame if column in frame else frame.assign(**{column: math.nan}), column)
    told = found.runs["told"].replace(f"without a finite {column}", UNASKED)
    return found.runs.assign(told=told), found.factors


def title(runs: pd.DataFrame, group: pd.DataFrame, values: dict[str, Any]) -> str:
    """Name a configuration as its runs are named, and by its factors where others have that name."""
    name = str(group["name"].iloc[0])
    alone = (runs["name"] == name).sum() == len(group)
    return name if alone else f"{name}: {configured(values)}"


def left_out(group: pd.DataFrame) -> str:
    """Say which runs have no part in the gain; where none was probed, the verdict says that."""
    told = group["told"] if (group["told"] == "").any() else group["told"].replace(UNASKED, "")
    return "; ".join(
        f"{len(names)} {why} ({named(names)})" for why, names in group["run"].groupby(told) if why
    )


def means(group: pd.DataFrame, probe: str, level: float) -> dict[str, Any]:
    """Means over the finished runs of one configuration, of the probe over those that count, with intervals.

    NaN where one of them has no number: a mean over the others would be of other seeds.
    """
    done, probed = group[group["state"] == "done"], group[group["told"] == ""]
    own, trivial = next(
        (pair for pair in OWN.items() if all(known(done, f"valid/{x}") for x in pair)), ("", "")
    )
    score = f"probe/{probe}/"
    beside = [x.removeprefix(score) for x in map(str, probed) if x.startswith(score) and known(probed, x)]
    sources = {
        "own": (done, f"valid/{own}"),
        "trivial": (done, f"valid/{trivial}"),
        PRETRAINED: (probed, score + PRETRAINED),
        RANDOM: (probed, score + RANDOM),
        "baseline": (probed, score + next((x for x in beside if x not in SIDES), "")),
        "audio_h": (done, "audio_h"),
        "device_h": (done, "device_h"),
    }
    found: dict[str, Any] = {"seeds": len(done), "metric": own}
    for name, (runs, column) in sources.items():
        mean = paired(runs[column].to_numpy(float) if column in runs else np.empty(0), level)
        found |= {name: mean.difference, f"{name}_low": mean.low, f"{name}_high": mean.high}
    return found


def known(runs: pd.DataFrame, column: str) -> bool:
    return column in runs and bool(runs[column].notna().any())


def cells(line: "pd.Series[Any]") -> list[str]:
    """One row of the table, as it is printed."""
    own = f"{between(line, 'own', 'own_')} {line['metric']}".strip()
    score, gain = between(line, PRETRAINED, f"{PRETRAINED}_"), between(line, "gain", "")
    trivial, random, baseline = (number(line[column]) for column in ("trivial", RANDOM, "baseline"))
    cost = (number(line["audio_h"], 1), number(60 * line["device_h"], 1))
    return [
        line["name"],
        str(line["seeds"]),
        own,
        trivial,
        score,
        random,
        gain,
        line["verdict"],
        baseline,
        *cost,
    ]


def between(line: "pd.Series[Any]", name: str, ends: str) -> str:
    """A mean and its interval, when it has one."""
    low, high = number(line[f"{ends}low"]), number(line[f"{ends}high"])
    return number(line[name]) + (f" [{low}, {high}]" if low else "")


def number(value: float, digits: int = 3) -> str:
    return "" if math.isnan(value) else f"{value:.{digits}f}"


def notes(table: pd.DataFrame) -> list[str]:
    """What is told below the table: whom it leaves out, and what its intervals cover."""
    short = table[table["left_out"] != ""]
    return [f"{name}: without {why}" for name, why in zip(short["name"], short["left_out"], strict=True)] + [
        COVERS
    ]
