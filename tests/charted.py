"""Folders of runs as training and probing leave them, with the frame that is read of them."""

import itertools
import json

import numpy as np
import pandas as pd

PROBE = "phone_frames"


def ablation(root, levels, seeds=3, *, steps=100, effect=lambda cell: 0.0, noise=0.02):
    """Leave one run per cell and seed; `effect` of a cell is what its accuracy gains. Give the frame."""
    random = np.random.default_rng(0)
    rows = []
    for values in itertools.product(*levels.values()):
        cell = dict(zip(levels, values, strict=True))
        for seed in range(seeds):
            run = root / f"run-{len(rows):03d}"
            run.mkdir(parents=True)
            gain = effect(cell) + noise * random.normal()
            lines(run / "metrics.jsonl", learnt(steps, gain))
            lines(run / "probes.jsonl", probed(run.name, steps, gain))
            rows.append(
                {
                    "run": run.name,
                    "path": str(run),
                    "name": "nest",
                    "seed": seed,
                    "state": "done",
                    "step": steps,
                }
                | {"steps": steps, "problems": "", "device_h": 1.0 + gain, "audio_h": 4.0, **cell}
                | {"valid/acc": 0.4 + gain, f"probe/{PROBE}/pretrained": 0.5 + gain}
            )
    frame = pd.DataFrame(rows)
    frame.attrs = {"factors": list(levels), "source": str(root), "falls": []}
    return frame


def learnt(steps, gain):
    for step in range(10, steps + 1, 10):
        for split in ("train", "valid"):
            acc = (0.4 + gain) * step / steps
            yield {"schema": 1, "step": step, "split": split, "time": 0.0, "acc": acc, "loss": 4 - acc}


def probed(run, step, gain):
    sides = [("log_mel", None, 0.4), ("log_mel", None, 0.45)]
    sides += [(side, layer, 0.5 + up + layer / 20) for layer in range(3) for side, up in sides_of(gain)]
    for index, (side, layer, mean) in enumerate(sides):
        yield {
            "schema": 1, "checkpoint": run, "step": step, "kind": "score", "probe": PROBE, "metric": "accuracy",
            "headline": True, "representation": side, "layer": layer, "period": 0.01 if index == 0 else 0.04,
            "mean": mean, "low": mean - 0.02, "high": mean + 0.03, "chosen": layer == 2, "values": [mean], "dev": [mean],
        }  # fmt: skip


def sides_of(gain):
    return (("pretrained", gain), ("random_init", -0.1))


def lines(file, objects):
    file.write_text("".join(json.dumps(each) + "\n" for each in objects))
