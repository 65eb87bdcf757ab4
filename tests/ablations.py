"""Frames of made-up ablations, as `research.analysis.frame.runs` gives them of real ones."""

import gc
from contextlib import contextmanager
from itertools import product

import numpy as np
import pandas as pd

GRID = {"augmentation": ("none", "speaker_noise"), "quantizer.codes": (64, 512), "masking.prob": (0.2, 0.4)}


def runs(grid, values):
    """One row per run of a grid: values (cells, seeds)."""
    cells = list(product(*grid.values()))
    rows = [
        {"run": f"run-{cell}-{seed}", "name": "run", "seed": seed, "state": "done", "commit": "c0ffee", "dirty": False}
        | {"schema": 1, "problems": ""}
        | dict(zip(grid, levels, strict=True))
        | {"score": values[cell, seed]}
        for cell, levels in enumerate(cells)
        for seed in range(values.shape[1])
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.attrs["factors"] = list(grid)
    return frame


def scores(rng, grid, seeds, *, own=1.0, shared=1.0, reacts=0.0):
    """Scores (cells, seeds) that no factor moves on average; of a seed (`shared`), and of a run (`own`).

    `reacts`: how far the seeds differ in what each factor does to them.
    """
    cells = list(product(*(range(len(levels)) for levels in grid.values())))
    values = shared * rng.normal(size=seeds) + own * rng.normal(size=(len(cells), seeds))  # (cells, seeds)
    turns = reacts * rng.normal(size=(len(grid), seeds))
    return values + np.array(cells) @ turns


@contextmanager
def quick():
    """Take what is there out of the sight of the garbage collector, which statsmodels calls in every correction."""
    gc.freeze()
    yield
    gc.unfreeze()
