"""Starting, killing and reading real runs, as a shell would."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from research.engine.weights import load_model

ROOT = Path(__file__).parents[1]
TINY = (
    "encoder=fastconformer_tiny", "quantizer.codes=64", "augmentation=speaker_noise", "data.batch_seconds=12",
    "train.log_every=1", "train.validate_every=8", "schedule.warmup=5", "checkpoint.every=4", "log.wandb=disabled",
    "data.buckets=4", "run.device=cpu",
)  # fmt: skip


def start(speech, folder, *overrides, launcher=(), env=None):
    """Start `hark train` on a tiny model; give the process."""
    data = (f"data.train=[{speech['train']}]", f"data.valid=[{speech['valid']}]", f"run.folder={folder}")
    command = [sys.executable, *launcher, "-m", "research.cli", "train", *TINY, *data, *overrides]
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (env or {})
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process):
    """Wait for a run; give its exit code and what it said."""
    try:
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    return process.returncode, out + err


def train(speech, folder, *overrides, **how):
    code, said = finish(start(speech, folder, *overrides, **how))
    assert code == 0, said
    return only_run(folder)


def only_run(folder):
    (run,) = Path(folder).iterdir()
    return run


def metrics(run, split="train"):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["split"] == split]


def losses(run, split="train"):
    return {record["step"]: record["loss"] for record in metrics(run, split)}


def weights_hash(run):
    """SHA-256 over the names and bytes of all weights of the newest checkpoint."""
    digest = hashlib.sha256()
    for name, value in sorted(load_model(run / "checkpoints").items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def wait_for_step(folder, step, process):
    """Return once a run has logged `step`."""
    while process.poll() is None:
        for file in Path(folder).glob("*/metrics.jsonl"):
            if any(f'"step": {step},' in line for line in file.read_text().splitlines()):
                return
        time.sleep(0.01)
    raise AssertionError(f"ended before step {step}: {process.communicate()}")


def wait_for_checkpoint(folder, step, process):
    """Return once the checkpoint of `step`, which a thread writes after the step, is whole."""
    while process.poll() is None:
        if list(Path(folder).glob(f"*/checkpoints/step_{step}")):
            return
        time.sleep(0.01)
    raise AssertionError(f"ended before checkpoint {step}: {process.communicate()}")
