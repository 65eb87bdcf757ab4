"""`hark classify`, interrupted on either side of a stage, and on two ranks."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from research.engine.weights import load_model
from tests.classifying import classify, make_task, records, typed
from tests.runs import ROOT


@pytest.fixture(scope="module")
def task(corpus, tmp_path_factory):
    return make_task(corpus, tmp_path_factory.mktemp("task"))


TUNED = (
    "tune.start=6", "train.steps=12", "train.validate_every=6", "checkpoint.every=3", "baselines=[]", "aggregation=concat",
)  # fmt: skip


def shell(task, folder, *overrides, launcher=()):
    words = [
        sys.executable,
        *launcher,
        "-m",
        "research.cli",
        "classify",
        *typed(task, folder, *TUNED, *overrides),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def outcome(path):
    """Weights of all runs at their last step, and all answers."""
    weights = {run.name: load_model(run / "checkpoints" / "step_12") for run in path.glob("pretrained-*")}
    return weights, {name: (record.answers, record.step) for name, record in records(path).items()}


def same(one, two):
    (weights, answers), (others, their_answers) = one, two
    assert weights.keys() == others.keys()
    for name, state in weights.items():
        for key, value in state.items():
            assert torch.equal(value, others[name][key]), (name, key)
    assert answers == their_answers


@pytest.fixture(scope="module")
def whole(task, tmp_path_factory):
    """A tuned experiment that nobody disturbed."""
    return classify(task, tmp_path_factory.mktemp("whole"), *TUNED)


@pytest.mark.parametrize(("number", "step"), [(signal.SIGKILL, 4), (signal.SIGTERM, 5), (signal.SIGKILL, 7)])
def test_the_same_command_goes_on_bit_exactly_on_both_sides_of_the_stage(task, whole, tmp_path, number, step):
    process = shell(task, tmp_path, "train.log_every=1")
    while process.poll() is None:
        logs = tmp_path.glob("*/pretrained-seed0*/metrics.jsonl")
        if any(f'"step": {step},' in log.read_text() for log in logs):
            process.send_signal(number)
            break
        time.sleep(0.01)
    process.communicate(timeout=600)
    assert process.returncode == (-9 if number == signal.SIGKILL else 143)
    same(outcome(classify(task, tmp_path, *TUNED)), outcome(whole))


def test_two_ranks_run(task, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc_per_node=2")
    process = shell(task, tmp_path, "upstream.layers=[1]", "train.batches=2", launcher=launcher)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    (path,) = tmp_path.iterdir()
    assert len(records(path)) == 2
    assert "always giving the commonest label" in said
