"""Other ranks go on with a run, sharing the model or not, and hear what it would have heard."""

import pytest

from tests import runs
from tests.elastic import KILLED, STOPPED, leg, order
from tests.sharded import as_shar

# the weights of its subsampling lie in memory in another order where ranks do not share them
COMMON = (
    "encoder=conformer_tiny", "encoder.channels=8", "train.batches=2", "train.steps=12", "checkpoint.every=3",
    "train.validate_every=6", "optimizer.eps=1e-3", "data.batch_seconds=4",
)  # fmt: skip
FSDP = "train.parallel=fsdp"


@pytest.mark.parametrize("kind", ["manifest", "lhotse"])
def test_ranks_that_come_and_go_hear_the_same_in_the_same_order(kind, speech, tmp_path, own_cache):
    data, how = speech, COMMON
    if kind == "lhotse":
        shar = as_shar(speech["train"], tmp_path / "shar")
        data, how = {**speech, "train": shar}, (*COMMON, "data=lhotse", "data.lanes=3", "data.buffer=20")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    assert leg(1, data, whole, *how) == 0

    assert leg(2, data, parts, *how, end="4:9") == KILLED
    assert leg(1, data, parts, *how, end="6:15") == STOPPED
    assert leg(2, data, parts, *how, FSDP, end="8:15") == STOPPED
    assert leg(2, data, parts, *how, FSDP, end="10:9") == KILLED
    assert leg(2, data, parts, *how) == 0

    assert order(parts) == order(whole)
    assert sorted(order(whole)) == list(range(1, 13))
    one, other = (runs.only_run(folder / "runs") for folder in (whole, parts))
    for split in ("train", "valid"):
        assert runs.losses(other, split) == pytest.approx(runs.losses(one, split), rel=1e-3)
    assert sorted(runs.losses(other)) == list(range(1, 13))
