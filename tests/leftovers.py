"""Run folders as training, jobs and probes leave them, without any of these: small, and of any outcome."""

import json
from functools import cache

from omegaconf import OmegaConf

from research import registry, runs
from research.compose import Variants
from research.config import Config

registry.load_plugins()
STEPS = 20
COMMON = ("data.train=[x.jsonl]", f"train.steps={STEPS}", "log.wandb=disabled")


@cache
def variants():
    """Compose what all runs share, once."""
    return Variants(Config, COMMON)


class Folder:
    """Makes runs in one folder."""

    def __init__(self, path):
        self.path = path

    def run(
        self, *overrides, loss=1.0, score=None, random=0.5, done=True, commit="c" * 40, diff="", falls=False
    ):
        """One run of these overrides, its loss falling to `loss`, its probe saying `score`."""
        composed = variants().compose([f"run.folder={self.path}", *overrides])
        run = runs.folder(composed.config)
        run.mkdir(parents=True)
        values = {"plugins": composed.choices, **runs.values_of(composed.config)}
        runs.write(run / "config.yaml", OmegaConf.to_yaml(values))
        runs.write(run / "overrides.yaml", OmegaConf.to_yaml(composed.overrides))
        runs.write(run / "code.json", json.dumps({"commit": commit, "diff": diff}))
        (run / "cost.json").write_text('{"wall_s": 60, "device_h": 0.05, "audio_h": 2.0}')
        last = STEPS if done else STEPS // 2
        lines(run / "metrics.jsonl", [logged(step, loss + STEPS - step) for step in range(5, last + 1, 5)])
        lines(run / "metrics.jsonl", [logged(last, loss + 0.5, "valid")])
        if done:
            runs.finish(run, STEPS)
        if score is not None:
            lines(run / "probes.jsonl", probed(score, random, falls=falls))
        return run


def lines(file, found):
    with open(file, "a") as out:
        out.writelines(json.dumps(line) + "\n" for line in found)


def logged(step, loss, split="train", **more):
    return {"schema": 1, "step": step, "split": split, "time": 1e9 + step, "loss": loss, **more}


def probed(score, random, step=STEPS, probe="phones", *, falls=False, manifest="a" * 64):
    """Lines of probes.jsonl: two layers of the encoder, the second one chosen, and log-mel at two rates."""
    head = {
        "schema": 1, "kind": "score", "probe": probe, "step": step, "metric": "accuracy", "headline": True, "falls": falls,
        "chosen": False, "period": 0.04, "low": 0.1, "high": 0.9, "manifests": {"phones_test.jsonl": manifest},
    }  # fmt: skip
    sides = [
        {"representation": "log_mel", "layer": None, "mean": 0.3, "period": 0.01},
        {"representation": "log_mel", "layer": None, "mean": 0.4},
        {"representation": "pretrained", "layer": 0, "mean": 0.99},
        {"representation": "pretrained", "layer": 1, "mean": score, "chosen": True},
        {"representation": "random_init", "layer": 0, "mean": random, "chosen": True},
    ]
    found = [head | side for side in sides]
    return [*found, found[3] | {"metric": "majority", "headline": False, "mean": 0.0}]


def sweep(path, cells, name="codes"):
    """Write sweep.json: run's name -> overrides."""
    file = path / "sweeps" / name / "sweep.json"
    file.parent.mkdir(parents=True)
    found = {
        run: {"differs": dict(word.split("=") for word in words), "overrides": list(words)}
        for run, words in cells.items()
    }
    file.write_text(json.dumps({"name": name, "typed": [], "cells": found}))
    return file
