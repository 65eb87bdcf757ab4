"""What runs logged over their steps, and what probes found on their layers, as long data frames."""

from pathlib import Path
from typing import Any

import pandas as pd

from research.analysis import probed
from research.analysis.digest import NEEDS, metrics
from research.analysis.reading import Line, lines
from research.errors import HarkError, nearest
from research.evaluation.records import PRETRAINED

LAYERS = ("representation", "layer", "period", "metric", "mean", "low", "high", "chosen")


def curves(frame: pd.DataFrame, metric: str, split: str = "train") -> pd.DataFrame:
    """One row per run and step at which a metric was logged: run, seed, factors..., step, audio_h, value.

    split: train, valid, health, or probe; of probes, a metric is the name of one, or NAME/REPRESENTATION. `audio_h` is
    what was heard up to the step, taking all steps as equally long. HarkError when no run has logged such a metric.
    """
    rows, known = [], dict[str, None]()
    for run in frame.to_dict("records"):
        logged = probes_of(run) if split == "probe" else logged_of(run, split)
        known |= {name: None for _, values in logged for name in values}
        rate = run["audio_h"] / run["step"] if run["step"] else float("nan")
        rows += [
            {**head(frame, run), "step": step, "audio_h": rate * step, "value": values[metric]}
            for step, values in logged
            if metric in values
        ]
    if not rows:
        raise HarkError(f"{split}/{metric}: no run has logged it{nearest(metric, known)}")
    return with_attrs(rows, frame)


def logged_of(run: dict[Any, Any], split: str) -> list[tuple[int, dict[str, float]]]:
    found = lines(Path(run["path"]) / "metrics.jsonl", [], needs=NEEDS, whole=run["state"] == "done")
    return [(line["step"], metrics(line)) for line in found if line["split"] == split]


def probes_of(run: dict[Any, Any]) -> list[tuple[int, dict[str, float]]]:
    """Scores of every probe, by the step that was probed."""
    found = []
    for probe, scored in probed.headlines(probe_lines(run)).items():
        for step in sorted({line["step"] for line in scored}):
            sides = probed.sides([line for line in scored if line["step"] == step])
            values = {f"{probe}/{side}": value for side, value in sides.items()}
            found.append((step, values | {probe: sides[PRETRAINED]} if PRETRAINED in sides else values))
    return found


def layers(frame: pd.DataFrame, probe: str) -> pd.DataFrame:
    """One row per run, representation and layer of a probe's newest step: run, seed, factors..., and LAYERS.

    period: s per frame; low, high: 95% interval over seeds of the probe and test utterances; what has no layers has
    NaN. Headline metric only. HarkError when no run was asked by this probe.
    """
    rows, known = [], dict[str, None]()
    for run in frame.to_dict("records"):
        found = probed.headlines(probe_lines(run))
        known |= dict.fromkeys(found)
        newest = max((line["step"] for line in found.get(probe, [])), default=0)
        rows += [
            head(frame, run) | {name: line.get(name) for name in LAYERS}
            for line in found.get(probe, [])
            if line["step"] == newest
        ]
    if not rows:
        raise HarkError(f"{probe}: no run was asked by it{nearest(probe, known)}; type: hark probe RUN")
    return with_attrs(rows, frame)


def with_attrs(rows: list[dict[str, Any]], frame: pd.DataFrame) -> pd.DataFrame:
    found = pd.DataFrame(rows)
    found.attrs |= frame.attrs
    return found


def head(frame: pd.DataFrame, run: dict[Any, Any]) -> dict[str, Any]:
    return {name: run[name] for name in ("run", "seed", *frame.attrs["factors"])}


def probe_lines(run: dict[Any, Any]) -> list[Line]:
    return lines(Path(run["path"]) / "probes.jsonl", [], needs=probed.NEEDS, whole=True)
