"""What single checks of a job say, beside refusing it."""

import fcntl
import multiprocessing
import time

import pytest
import torch

from research import runs
from research.compose import compose_config
from research.contracts import Batch, Seq
from research.launch.checks.job import Job
from research.launch.checks.mask import mask
from research.launch.checks.plan import plan_of
from research.launch.preflight import of_overrides
from research.model import assemble
from tests.planted import SMALL, base
from tests.sounds import RATE


@pytest.mark.parametrize("length", [60, 100, 150])
def test_the_share_of_batches_without_a_target_is_that_of_the_plan(length, speech, tmp_path):
    overrides = [*SMALL, *base(speech, tmp_path), "data.batch_seconds=3", f"masking.length={length}"]
    job = Job(compose_config(overrides), 20)
    plan, objective = job.get(plan_of), assemble(job.cfg)
    empty = 0
    for number in range(plan.per_epoch):
        lengths = torch.from_numpy((plan.durations[plan[number].rows] * RATE).astype(int))
        audio = Seq(torch.zeros(len(lengths), int(lengths.max())), lengths)
        empty += objective(Batch.clean(audio)).count == 0
    said = mask(job)
    assert (empty > 0) == (length > 60)
    if empty:
        assert f"{empty / plan.per_epoch:.1%} of the batches" in said.text
    assert said.verdict.value == (
        "ok" if not empty else "warn" if empty <= 0.1 * plan.per_epoch else "refuse"
    )


def verdicts(overrides):
    return {each.name: (each.verdict.value, each.text) for each in of_overrides(overrides, 20)}


def hold(path, ready):
    with open(path, "w") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        ready.set()
        time.sleep(600)


def test_a_job_that_runs_already_is_refused(speech, tmp_path):
    overrides = [*SMALL, *base(speech, tmp_path)]
    folder = runs.folder(compose_config(overrides).config)
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=hold, args=(folder / "lock", ready))
    other.start()
    try:
        assert ready.wait(60)
        verdict, said = verdicts(overrides)["run"]
    finally:
        other.kill()
        other.join()
    assert verdict == "refuse"
    assert "another process is at this run" in said
    assert verdicts(overrides)["run"] == ("ok", f"{folder}: goes on after step 0")


def test_a_finished_job_is_told(speech, tmp_path):
    overrides = [*SMALL, *base(speech, tmp_path), "train.steps=4"]
    folder = runs.folder(compose_config(overrides).config)
    (folder / "checkpoints" / "step_4").mkdir(parents=True)
    assert verdicts(overrides)["run"] == ("ok", f"{folder}: goes on after step 4")
    runs.finish(folder, 4)
    verdict, said = verdicts(overrides)["run"]
    assert verdict == "warn"
    assert "is finished after 4 steps" in said


def test_plugins_that_only_import_here_are_refused(speech, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "broken_one.py").write_text("import a_missing_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)  # where Python looks first, here and not in a job
    monkeypatch.setenv("HARK_PLUGINS", "mine")
    overrides = [*SMALL, *base(speech, tmp_path)]
    verdict, said = verdicts(overrides)["imports"]
    assert verdict == "refuse"
    assert "HARK_PLUGINS names mine" in said
    assert "No module named 'mine'" in said
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert verdicts(overrides)["imports"][0] == "ok"
    monkeypatch.setenv("HARK_PLUGINS", "broken_one")
    monkeypatch.setattr("research.registry.broken", {})
    assert "No module named 'a_missing_library'" in verdicts(overrides)["imports"][1]
    assert verdicts(overrides)["plugins"][0] == "warn"


def test_what_is_not_meant_is_warned_of(speech, tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("research.registry.broken", {})
    overrides = [
        *SMALL, *base(speech, tmp_path), f"data.valid=[{speech['train']}]", "log.wandb=online", "data.workers=9",
        "data.batch_seconds=1", "cluster.device=a100", "run.device=cpu", "cluster.hours=0.00001", "checkpoint.every=1",
    ]  # fmt: skip
    found = verdicts(overrides)
    words = {
        "valid": "60 of 60 utterances are trained on too",
        "wandb": "type log.wandb=offline",
        "workers": "type data.workers=2",
        "bins": "is longer than data.batch_seconds=1",
        "device": "the GPU will idle",
        "time": "it has to be queued",
    }
    assert {name for name, (verdict, _) in found.items() if verdict == "warn"} == words.keys()
    for name, part in words.items():
        assert part in found[name][1]


def test_lanes_that_ranks_cannot_share_evenly_are_warned_of(speech, tmp_path):
    two = [*SMALL, *base(speech, tmp_path), "data=lhotse", "cluster.per_node=2", "train.batches=2"]
    assert verdicts(two)["lanes"][0] == "warn"
    assert "1 lanes are no multiple of the 2 ranks" in verdicts(two)["lanes"][1]
    assert "lanes" not in verdicts([*two, "data.buffer=10"])
