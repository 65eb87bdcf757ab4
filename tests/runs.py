"""Starting, killing and reading real runs, as a shell would."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from research.engine.weights import load_model

ROOT = Path(__file__).parents[1]
TINY = (
    "encoder=fastconformer_tiny", "quantizer.codes=64", "augmentation=speaker_noise", "data.batch_seconds=12",
    "train.log_every=1", "train.validate_every=8", "schedule.warmup=5", "checkpoint.every=4", "log.wandb=disabled",
    "data.buckets=4", "run.device=cpu",
)  # fmt: skip
HOLD = """
import os
import time
from pathlib import Path

from research.engine.checkpoint import Checkpoints
from research.training import loop

GO, PARENT = Path(__file__).with_name("go"), os.getppid()
train_step, write_score = loop.train_step, Checkpoints.write_score


def hold():
    while not GO.exists() and os.getppid() == PARENT:  # no test that failed leaves it behind
        time.sleep(0.01)


def held_step(student, batches, done, *args, **named):
    if done == {step}:
        hold()
    return train_step(student, batches, done, *args, **named)


def held_score(self, step, score):
    if step == {save}:
        hold()
    write_score(self, step, score)


loop.train_step, Checkpoints.write_score = held_step, held_score
"""


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


def held(folder, step=None, save=None):
    """Environment of a run that waits for `go` when `step` steps are done, or in the middle of saving step `save`.

    What happens to it then does not depend on how soon a test looks. Its config is that of any other run.
    """
    file = Path(tempfile.mkdtemp(prefix="held-", dir=Path(folder).parent)) / "holding.py"
    file.write_text(HOLD.format(step=step, save=save))
    return {"HARK_PLUGINS": str(file)}


def go(environment):
    """Let a held run go on. It has heard the signals that it was sent before."""
    Path(environment["HARK_PLUGINS"]).with_name("go").touch()


def wait_for_step(folder, step, process):
    """Return once a run has logged `step`."""
    wait(
        process,
        f"step {step}",
        lambda: any(f'"step": {step},' in file.read_text() for file in Path(folder).glob("*/metrics.jsonl")),
    )


def wait_for_checkpoint(folder, step, process):
    """Return once the checkpoint of `step`, which a thread writes after the step, is whole."""
    wait(process, f"checkpoint {step}", lambda: any(Path(folder).glob(f"*/checkpoints/step_{step}")))


def wait(process, what, reached):
    """Return once something is reached, be it by a process that has ended since."""
    ended = False
    while not reached():
        assert not ended, f"ended before {what}: {process.communicate()}"
        ended = process.poll() is not None
        time.sleep(0.01)
