"""Runs as one data frame: what tells them apart, how far they came, what they measured, what they cost."""

from pathlib import Path
from typing import Any

import pandas as pd

from research.analysis import cache, factors, mixed, sources
from research.analysis.digest import COSTS, Digest
from research.analysis.reading import typed


def runs(source: str | Path, root: Path = Path("runs")) -> pd.DataFrame:
    """One row per run of a folder, a sweep of `root`, a packed file (`*.jsonl`) or `wandb:ENTITY/PROJECT`.

    run, path, name, signature, seed
    state        done, unfinished, missing (a sweep's cell without a run), unreadable, or how its last job ended:
                 failed, ...
    step, steps  logged last, and of the whole run
    commit, dirty, schema (of metrics.jsonl)
    problems     what is wrong with it, in words; "" when nothing is
    alarms       names of those that ever went on
    KEY          one column per override that differs; `attrs["factors"]` names them
    wall_s, device_h, audio_h, energy_kwh
    train/METRIC, valid/METRIC          logged last
    probe/PROBE/REPRESENTATION          newest step, on the layer that dev chose: pretrained, random_init, baselines
    probe/PROBE/gain                    of pretrained over random_init; positive is better, whatever the probe

    What is not known, or not finite, is missing (NaN). In `attrs`:
    source       what was typed
    factors      the overrides that differ, each also apart from the others
    follows      those that do not: key -> the factor that decides it
    falls        columns of probes of which less is better

    Nothing but files is read, and of these only what has changed since the last time. HarkError when there is no run.
    """
    found = sources.find(source, root)
    there = [run for run in found.runs if sources.is_run(run)]
    read = dict(zip(there, cache.digests(found.root, there), strict=True))
    digests = [read.get(run) or missing(found, run) for run in found.runs]
    differs = factors.columns(digests)
    heads = pd.DataFrame([row(each) for each in digests]).join(pd.DataFrame(differs))
    mixed.tell(digests, heads, list(differs))
    heads["problems"] = ["; ".join(each.problems) for each in digests]
    frame = heads.join(pd.DataFrame([each.values for each in digests], columns=columns_of(digests)))
    follows = factors.follows(frame, list(differs))
    falls = sorted({f"probe/{probe}" for each in digests for probe in each.falls})
    kept = [key for key in differs if key not in follows]
    frame.attrs |= {"source": str(source), "factors": kept, "follows": follows, "falls": falls}
    return frame


def columns_of(digests: list[Digest]) -> list[str]:
    """Names of all numbers, costs first."""
    return list(dict.fromkeys([*COSTS, *(name for each in digests for name in each.values)]))


def missing(source: sources.Source, run: Path) -> Digest:
    """A cell of a sweep that has no run."""
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
        "problems": "",  # once all runs are known
        "alarms": " ".join(each.alarms),
    }
