"""Ranks measure what one process measures, sharing the model or not, and go back together."""

import pytest

from research.training.health import record
from research.training.signals import ALARMED
from tests import runs
from tests.elastic import leg
from tests.test_elastic import COMMON

# an alarm that is always on, so that the run goes back once and then stops
ALWAYS = (
    "health=rollback", "health.every=4", "health.patience=1", "health.limits.mask_ratio=2", "health.rollbacks=1",
    "train.log_every=4",
)  # fmt: skip


@pytest.fixture(scope="module")
def alone(speech, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert leg(1, speech, folder, *COMMON, *ALWAYS) == ALARMED
    return runs.only_run(folder / "runs")


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_ranks_measure_and_go_back_as_one(speech, alone, tmp_path, parallel):
    assert leg(2, speech, tmp_path, *COMMON, *ALWAYS, f"train.parallel={parallel}") == ALARMED
    run = runs.only_run(tmp_path / "runs")
    for one in (run, alone):
        found = [(event["event"], event["alarm"], event["step"]) for event in record.events(one)]
        assert found == [("rollback", "no_mask", 4), ("on", "no_mask", 4)]
    assert runs.losses(run) == pytest.approx(runs.losses(alone), rel=1e-3)
    for mine, theirs in zip(runs.metrics(run, "health"), runs.metrics(alone, "health"), strict=True):
        assert mine.keys() == theirs.keys()
        for name in set(mine) - {"time", "split"}:
            assert mine[name] == pytest.approx(theirs[name], rel=1e-2, abs=1e-3), name
