"""A sweep on a real SLURM: jobs killed, preempted and forgotten about, and all runs end as if nothing had been."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch

from research import runs as folders
from research.compose import compose_config
from research.launch.sweep.ledger import events
from research.launch.sweep.standing import LIVE, Standing, Wanted, standings
from research.launch.sweep.submit import backends
from research.training.loop import train
from tests import runs
from tests.test_slurm_job import pace
from tests.test_wandb import history

AXES = ("objective=nest,best_rq", "quantizer.codes=32,64", "run.seed=0,1,2")
SMALL = (
    "encoder=fastconformer_tiny", "augmentation=speaker_noise", "data.batch_seconds=12", "data.buckets=4",
    "train.steps=60", "train.log_every=5", "train.validate_every=30", "checkpoint.every=5", "schedule.warmup=5",
)  # fmt: skip
JOBS = (
    "cluster=slurm", "cluster.partition=low", "cluster.cpus=1", "cluster.memory_gb=0.9", "cluster.hours=0.5",
    "cluster.tries=1", "data.workers=0",
)  # fmt: skip
PATIENCE = 300


def hark(*words):
    """Type a command; give its exit code and all that it said."""
    done = subprocess.run(
        [sys.executable, "-m", "research.cli", *words], cwd=runs.ROOT, check=False, text=True, capture_output=True,
        timeout=PATIENCE, env=os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def data_of(speech, folder):
    return f"data.train=[{speech['train']}]", f"data.valid=[{speech['valid']}]", f"run.folder={folder}"


def sweep(speech, folder, *words):
    code, said = hark("sweep", "--name", "s", *SMALL, *JOBS, *data_of(speech, folder), *AXES, *words)
    assert code == 0, said
    return said


def states(folder):
    cells = sorted(folder.glob("*-??????????"))
    found = standings([Wanted(run) for run in cells], backends(folder))
    return {run.name: state.standing for run, state in zip(cells, found, strict=True)}


def live(folder):
    return set(states(folder).values()) & set(LIVE)


def until(true, what):
    """Wait until something is true, and give it."""
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, what
        time.sleep(0.2)
    return found


def begun(folder):
    """Runs that are being trained and have a checkpoint, with the process that trains them."""
    found = {}
    for run in (run for run in folder.glob("run-*") if not (run / "done.json").exists()):
        for event in events(run):
            if event["event"] == "began":
                found[run] = event["pid"]
    return {run: pid for run, pid in found.items() if list(run.glob("checkpoints/step_*[0-9]"))}


def preempted(folder):
    return any(event.get("again") for run in folder.glob("run-*") for event in events(run))


@pytest.fixture(scope="module")
def undisturbed(speech, tmp_path_factory):
    """SHA-256 of the final weights of every cell by its signature, trained one after another in this process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    torch.set_num_threads(1)
    found = {}
    for objective in ("nest", "best_rq"):
        for codes in (32, 64):
            for seed in (0, 1, 2):
                cell = (f"objective={objective}", f"quantizer.codes={codes}", f"run.seed={seed}")
                quiet = (*data_of(speech, folder), "data.workers=0", "log.wandb=disabled")
                composed = compose_config([*SMALL, *quiet, *cell])
                assert train(composed) == 0
                run = folders.folder(composed.config)
                found[run.name] = runs.weights_hash(run)
    return found


def test_twelve_cells_end_as_if_nothing_had_happened(slurm, speech, undisturbed, tmp_path):
    assert "12 jobs are queued" in sweep(speech, tmp_path, f"cluster.setup={pace(tmp_path, 1.0)}")
    training = until(lambda: len(found := begun(tmp_path)) >= 3 and found, "jobs begin")
    killed = dict(list(training.items())[:3])
    for pid in killed.values():
        os.kill(pid, signal.SIGKILL)
    slurm.client("sbatch", "--partition=high", "--cpus-per-task=4", "--output=/dev/null", "--wrap=sleep 2")
    slurm.saved()
    slurm.kill_controller()
    time.sleep(3)
    slurm.start_controller()
    until(lambda: preempted(tmp_path), "a job makes room")
    (tmp_path / "go").touch()
    until(lambda: not live(tmp_path), "the end of all jobs")
    stand = states(tmp_path)
    assert {name for name, state in stand.items() if state is Standing.lost} == {run.name for run in killed}
    assert Counter(stand.values()) == {Standing.done: 9, Standing.lost: 3}
    code, said = hark("status", "s", "--folder", str(tmp_path))
    assert code == 1
    assert said.count("exit 137 (SIGKILL)") >= 3, said
    assert "3 jobs are queued" in sweep(speech, tmp_path)
    until(lambda: not live(tmp_path), "the end of the lost")
    assert set(states(tmp_path).values()) == {Standing.done}
    assert {run.name: runs.weights_hash(run) for run in tmp_path.glob("run-*")} == undisturbed
    for run in tmp_path.glob("run-*"):
        steps = [step for step, _ in history(run)]
        assert steps == sorted(set(steps))
        assert steps[-1] == 60
    nothing_is_repeated(speech, tmp_path)


def nothing_is_repeated(speech, folder):
    assert "nothing to do" in sweep(speech, folder)
    assert "nothing to do" in sweep(speech, folder, "train.log_every=7", "cluster=local")
    said = sweep(speech, folder, "run.seed=0,1,2,3", "--dry-run")
    assert "16 cells: 12 done, 4 missing" in said


PLUGIN = '''
from dataclasses import dataclass
from research.registry import find, register

print("version one", flush=True)
Nest = find("objective", "nest")

@register("hopeless")
class Hopeless(Nest):
    """Fails."""

    @dataclass
    class Config(Nest.Config):
        pass

    def forward(self, batch):
        raise ArithmeticError("out of ideas")
'''


def test_cells_fail_alone_and_jobs_keep_the_code_of_their_sweep(slurm, speech, tmp_path, monkeypatch):
    plugin = tmp_path / "hopeless_plugin.py"
    plugin.write_text(PLUGIN)
    monkeypatch.setenv("HARK_PLUGINS", "hopeless_plugin")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    words = (
        *SMALL,
        *JOBS,
        *data_of(speech, tmp_path / "runs"),
        "train.steps=5",
        "cluster.extra={hold: true}",
    )
    code, said = hark(
        "sweep",
        "--name",
        "s",
        *words,
        "objective=nest,hopeless",
        "quantizer=random_projection,gumbel",
        "--force",
    )
    assert code == 1, said
    assert "refused" in said
    assert "a plugin fails: ArithmeticError: out of ideas" in said
    assert "2 jobs are queued" in said
    plugin.write_text(PLUGIN.replace("one", "two").replace("out of ideas", "edited"))
    slurm.client(
        "scontrol",
        "release",
        *{
            event["job"].partition("_")[0]
            for run in (tmp_path / "runs").glob("run-*")
            for event in events(run)
            if event["job"]
        },
    )
    until(lambda: not live(tmp_path / "runs"), "the end of both")
    assert set(states(tmp_path / "runs").values()) == {Standing.done, Standing.failed}
    _, shown = hark("status", "s", "--folder", str(tmp_path / "runs"))
    assert "ArithmeticError: out of ideas" in shown
    _, logs = hark("logs", "s", "--folder", str(tmp_path / "runs"))
    assert "version one" in logs
    assert "version two" not in logs
