"""Two nodes with two ranks each, on a real SLURM: the run of one process."""

import time
from pathlib import Path

import pytest

from research.config import Cluster, Scheduler
from research.launch.sweep.slurm import Slurm
from tests import runs
from tests.elastic import leg
from tests.jobs import ends, order_of

SMALL = (
    "train.batches=4",
    "train.steps=4",
    "optimizer.eps=1e-3",
    "data.batch_seconds=4",
    "data.reader=torch",
)
ALONE = ("data.workers=0", "train.validate_every=2", "encoder.conv_norm=batch")
PLACE = {"nodes": 2, "per_node": 2, "cpus": 1, "memory_gb": 0.5, "hours": 0.5, "partition": "low"}


@pytest.fixture
def queue(slurm, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield Slurm()
    slurm.up()
    slurm.clear()


def test_two_nodes_share_a_run(queue, speech, tmp_path):
    place, jobs = Cluster(scheduler=Scheduler.slurm, **PLACE), {}
    for number, parallel in enumerate(("ddp", "fsdp")):
        folder = tmp_path / parallel / "runs"
        order, file = order_of(speech, folder, *SMALL, *ALONE, f"train.parallel={parallel}", number=number)
        [jobs[parallel]] = [(job, order) for job in queue.submit([file], [order], place, parallel)]
    (tmp_path / "one").mkdir()
    assert leg(1, speech, tmp_path / "one", *SMALL, *ALONE) == 0
    one = runs.only_run(tmp_path / "one" / "runs")
    deadline = time.monotonic() + 300
    for job, order in jobs.values():
        while not ends(order):
            assert time.monotonic() < deadline, queue.states([job])
            time.sleep(0.2)
        assert ends(order)[-1]["outcome"] == "done", ends(order)
        for split in ("train", "valid"):
            there, here = (runs.losses(run, split) for run in (Path(order.run), one))
            assert there == pytest.approx(here, rel=1e-4)
