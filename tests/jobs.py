"""Orders of tiny trainings, and jobs that work them off."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from research import runs
from research.compose import compose_config
from research.launch.sweep.ledger import events
from research.launch.sweep.order import Order
from tests.runs import ROOT, TINY


def order_of(speech, root, *overrides, number=0, **changes):
    """Write an order; give it with its file. The run's folder is made, as a sweep makes it."""
    data = (f"data.train=[{speech['train']}]", f"data.valid=[{speech['valid']}]", f"run.folder={root}")
    composed = compose_config([*TINY, *data, *overrides])
    run = runs.create(composed.config, composed.choices, composed.overrides)
    values = {"plugins": composed.choices, **runs.values_of(composed.config)}
    folder = Path(root) / "sweeps" / "s"
    order = Order(str(run), "s", str(folder), str(ROOT), str(ROOT), "train", values, composed.overrides)
    order = replace(order, **changes)
    file = folder / "orders" / f"batch-{number}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    order.save(file)
    return order, file


def start(file, **env):
    """Start a job as the queue of this machine does."""
    words = [sys.executable, "-P", "-m", "research.launch.sweep.job", str(file)]
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HARK_JOB": "j"} | env
    return subprocess.Popen(
        words, env=os.environ | variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ends(order, kind="train"):
    return [event for event in events(Path(order.run), kind) if event["event"] == "ended"]
