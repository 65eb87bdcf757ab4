"""Trainings that cannot work raise an alarm within 200 steps, healthy ones none; what is rolled back goes on."""

import json
import math
import signal

import pytest

from research import registry, runs
from research.compose import compose_config
from research.health import Action
from research.training.health import record
from research.training.loop import train
from research.training.signals import ALARMED
from tests import faulty
from tests.runs import losses, metrics, only_run, weights_hash

COMMON = (
    "encoder=fastconformer_tiny", "encoder.stride=4", "data.batch_seconds=6", "data.buckets=4", "data.workers=0",
    "data.reader=torch", "train.steps=200", "train.log_every=10", "checkpoint.every=1000", "schedule=cosine",
    "schedule.warmup=20", "optimizer.lr=1e-3", "log.wandb=disabled", "run.device=cpu",
)  # fmt: skip
NEST = ("objective=nest", "quantizer.codes=64", "augmentation=speaker_noise")
SPANS = ("masking=span", "masking.length=4")
GUMBEL = (
    "quantizer.books=4", "quantizer.codes=16", "quantizer.dim=32", "objective.target_norm=instance",
    "objective.target_grad=0", "objective.dim=32", "objective.negatives=20", *SPANS,
)  # fmt: skip
EMA = ("quantizer.codes=16", "objective.layers=2", *SPANS)
REGRESSION = ("quantizer=none", "objective.layers=2", *SPANS)
HEALTHY = {
    "nest": NEST,
    "best_rq": ("objective=best_rq", "quantizer=best_rq", "quantizer.codes=64"),
    "w2v_bert": ("objective=w2v_bert", "quantizer=gumbel", *GUMBEL),
    "data2vec": ("objective=data2vec", *REGRESSION),
    "dinosr": ("objective=dinosr", "quantizer=ema", *EMA),
}
FAULTS = {
    "learning rate x100": ("explosion", *NEST, "optimizer.lr=0.1"),
    "decay of 1": ("stuck_teacher", *HEALTHY["data2vec"], "objective.keep={start: 1, end: 1}"),
    "constant teacher": ("teacher", "objective=constant_teacher", *REGRESSION),
    "frozen clusters": ("frozen_codes", "objective=dinosr", "quantizer=frozen_ema", *EMA),
    "frozen codebook": ("frozen_codes", "objective=w2v_bert", "quantizer=frozen_gumbel", *GUMBEL),
    "no mask": ("no_mask", *NEST, "masking=hides_nothing"),
}


def go(speech, folder, *overrides):
    registry.load_plugins()
    paths = (f"data.train=[{speech['train']}]", f"run.folder={folder}")
    return train(compose_config([*COMMON, *paths, *overrides]))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_within_200_steps(speech, tmp_path, capsys, fault):
    alarm, *overrides = FAULTS[fault]
    ignored = [f"health.actions.{name}=ignore" for name in ("rank", "targets", "predictions")]
    assert go(speech, tmp_path, "health=stop", *ignored, *overrides) == ALARMED
    run = only_run(tmp_path)
    (event,) = record.events(run)
    assert (event["alarm"], event["event"]) == (alarm, "on")
    assert event["step"] <= 200
    assert event["says"] in " ".join(capsys.readouterr().out.split("\n"))
    assert set(record.on(run)) == {alarm}
    assert (run / "checkpoints" / f"step_{event['step']}").is_dir()
    assert not runs.finished(run)


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_run_raises_no_alarm(speech, tmp_path, name):
    assert go(speech, tmp_path, "health.patience=1", *HEALTHY[name]) == 0
    run = only_run(tmp_path)
    assert record.events(run) == []
    found = metrics(run, "health")
    assert [one["step"] for one in found] == [50, 100, 150, 200]
    assert all(math.isfinite(value) for one in found for value in one.values() if type(value) is float)
    assert 0 < found[-1]["cka_2"] < found[0]["cka_0"] < 1


ROLLBACK = (
    *NEST, "objective=nest_ending", "optimizer.lr=0.1", "health=rollback", "health.lr_factor=0.01", "health.every=20",
    "checkpoint.every=8", "train.steps=40", "train.log_every=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def rolled_back(speech, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rolled")
    assert go(speech, folder, *ROLLBACK) == 0
    return only_run(folder)


def test_a_rollback_goes_on_with_a_lower_rate(rolled_back):
    (event,) = record.events(rolled_back)
    assert (event["alarm"], event["event"], event["step"], event["to"]) == ("explosion", "rollback", 20, 0)
    assert event["lr_factor"] == 0.01
    assert record.on(rolled_back) == {}
    logged = metrics(rolled_back)
    assert [one["step"] for one in logged] == list(range(1, 41))
    assert all(math.isfinite(one["loss"]) for one in logged)
    assert max(one["lr"] for one in logged) == pytest.approx(1e-3)
    assert [one["step"] for one in metrics(rolled_back, "health")] == [20, 40]


@pytest.mark.parametrize(
    "end",
    [
        f"15:{int(signal.SIGTERM)}",  # before the rollback, which comes after 20 steps
        f"31:{int(signal.SIGTERM)}",  # after it
        "24:0",  # after it, before it has saved anything
        "38:0",
    ],
)
def test_a_run_that_was_rolled_back_resumes_bit_exactly(speech, rolled_back, tmp_path, monkeypatch, end):
    monkeypatch.setenv("HARK_TEST_END", end)
    if end.endswith(":0"):
        with pytest.raises(RuntimeError, match="the node is gone"):
            go(speech, tmp_path, *ROLLBACK)
    else:
        assert go(speech, tmp_path, *ROLLBACK) == faulty.STOPPED
    monkeypatch.delenv("HARK_TEST_END")
    assert go(speech, tmp_path, *ROLLBACK) == 0
    run = only_run(tmp_path)
    assert losses(run) == losses(rolled_back)
    assert weights_hash(run) == weights_hash(rolled_back)
    assert told(run) == told(rolled_back)
    assert numbers(run) == numbers(rolled_back)


def told(run):
    return [{key: value for key, value in event.items() if key != "time"} for event in record.events(run)]


def numbers(run):
    return [{key: value for key, value in one.items() if key != "time"} for one in metrics(run, "health")]


def test_after_so_many_rollbacks_the_run_stops(speech, tmp_path):
    overrides = (*ROLLBACK, "objective=nest", "health.lr_factor=0.99", "health.rollbacks=1", "train.steps=60")
    assert go(speech, tmp_path, *overrides) == ALARMED
    run = only_run(tmp_path)
    assert [event["event"] for event in record.events(run)] == ["rollback", "on"]
    assert go(speech, tmp_path, *overrides) == ALARMED  # nobody changed anything
    assert json.loads((run / "alarms.jsonl").read_text().splitlines()[-1])["event"] == "on"


def test_health_off_measures_nothing_and_is_the_same_run(speech, tmp_path):
    short = (*NEST, "train.steps=12", "health.every=5", "train.log_every=1")
    assert go(speech, tmp_path / "on", *short) == 0
    assert go(speech, tmp_path / "off", *short, "health=off", "health.every=0") == 0
    on, off = only_run(tmp_path / "on"), only_run(tmp_path / "off")
    assert on.name == off.name
    assert losses(on) == losses(off)
    assert weights_hash(on) == weights_hash(off)
    assert metrics(off, "health") == []
    assert metrics(on)[0].keys() == metrics(off)[0].keys()
    assert not (off / "health.pt").exists()


def test_only_a_rollback_decides_what_is_computed():
    def signature(*overrides):
        return runs.signature(compose_config(list(overrides)).config)

    plain = signature()
    same = (
        "health=off",
        "health=stop",
        "health.every=7",
        "health.limits.rank=0.3",
        "health.actions.rank=stop",
    )
    assert {signature(one) for one in same} == {plain}
    assert signature("health.actions.rank=rollback") not in {plain, signature("health=rollback")}
    assert signature("health=rollback", "health.lr_factor=0.1") != signature("health=rollback")
    assert signature("health=rollback", "health.every=0") == plain
    assert compose_config(["health=rollback"]).config.health.actions.no_mask is Action.rollback
