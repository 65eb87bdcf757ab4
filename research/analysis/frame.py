"""Runs as one data frame: what tells them apart, how far they came, what they measured, what they cost."""

from pathlib import Path
from typing import Any

import pandas as pd

from research.analysis import factors, sources
from research.analysis.digest import Digest, digest
from research.analysis.reading import typed


def runs(source: str | Path, root: Path = Path("runs")) -> pd.DataFrame:
    """One row per run of a folder, a sweep of `root`, a packed file (`*.jsonl`) or `wandb:ENTITY/PROJECT`.

    run, path, name, signature, seed
    state        done, unfinished, missing (a sweep's cell without a run), or how its last job ended: failed, ...
    step, steps  logged last, and of the whole run
    commit, dirty, schema (of metrics.jsonl)
    problems     what is wrong with it, in words; "" when nothing is
    alarms       names of those that ever went on
    KEY          one column per override that differs; `attrs["factors"]` names them
    wall_s, device_h, audio_h, energy_kwh
    train/METRIC, valid/METRIC          logged last
    probe/PROBE/REPRESENTATION          newest step, on the layer that dev chose: pretrained, random_init, baselines
    probe/PROBE/gain                    of pretrained over random_init; positive is better, whatever the probe

    What is not known is missing (NaN). `attrs["source"]` is what was typed. HarkError when there is no run.
    """
    found = sources.find(source, root)
    digests = [read(found, run) for run in found.runs]
    differs = factors.columns(digests)
    frame = pd.DataFrame([row(each) for each in digests])
    for key, values in differs.items():
        frame[key] = values
    numbers = pd.DataFrame([each.values for each in digests])
    frame = pd.concat([frame, numbers], axis=1)
    frame.attrs |= {"factors": list(differs), "source": str(source)}
    return frame


def read(source: sources.Source, run: Path) -> Digest:
    if sources.is_run(run):
        return digest(run)
    overrides = typed(source.cells[run.name]["overrides"])
    return Digest(run.name, str(run), typed=overrides, problems=["no run is there"])


def row(each: Digest) -> dict[str, Any]:
    """All but factors and numbers."""
    seed = factors.value(each, "run.seed")
    return {
        "run": each.run,
        "path": each.path,
        "name": each.config.get("run.name", each.run.rpartition("-")[0]),
        "signature": each.run.rpartition("-")[2],
        "seed": seed,
        "state": each.state,
        "step": each.step,
        "steps": each.config.get("train.steps"),
        "commit": each.commit,
        "dirty": bool(each.diff),
        "schema": each.schema,
        "problems": "; ".join(each.problems),
        "alarms": " ".join(each.alarms),
    }
