"""Trainings on a real SLURM: whatever ends them, they go on, and end with the same weights."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from research.config import Cluster, Scheduler
from research.launch.sweep.ledger import events, note
from research.launch.sweep.slurm import Slurm
from tests.jobs import ends, order_of
from tests.jobs import start as start_here
from tests.runs import finish, metrics, weights_hash

STEPS = ("train.steps=150", "checkpoint.every=20", "train.validate_every=1000")
PACE = """
import time
from pathlib import Path
from plugins.objectives.nest import NEST

def on_step_end(self, step):
    if not Path({go!r}).exists():
        time.sleep({pause})

NEST.on_step_end = on_step_end
"""


def pace(folder, pause):
    """Write what keeps jobs from their end until the file `go` is there; give the lines that they start with."""
    (folder / "paced.py").write_text(PACE.format(go=str(folder / "go"), pause=pause))
    return [f"export HARK_PLUGINS={folder}/paced.py"]


@pytest.fixture
def send(slurm, speech, tmp_path, monkeypatch):
    """Submit the training of a tiny model, slow until `go` is there; give the order and its job."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def submit(*overrides, number=0, partition="low", **settings):
        small = {
            "scheduler": Scheduler.slurm,
            "cpus": 1,
            "memory_gb": 0.5,
            "hours": 0.5,
            "partition": partition,
            "setup": pace(tmp_path, 0.5),
        }
        order, file = order_of(speech, tmp_path / "runs", *STEPS, *overrides, number=number)
        [job] = Slurm().submit([file], [order], Cluster(**{**small, **settings}), f"sweep-{number}")
        return order, job

    yield submit
    slurm.up()
    slurm.clear()


def until(done, what=lambda: ""):
    end = time.monotonic() + 300
    while not (found := done()):
        assert time.monotonic() < end, what()
        time.sleep(0.05)
    return found


def shell(*words):
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def live(job):
    return Slurm().states([job])[job]


def begins(order, count, job=""):
    """Wait until a run has begun so often, and has done steps since; give the last event."""
    run = Path(order.run)

    def trains():
        began = [event for event in events(run) if event["event"] == "began"]
        return (
            len(began) >= count
            and (run / "metrics.jsonl").exists()
            and (any(record["time"] > began[-1]["time"] + 0.5 for record in metrics(run)) and began[-1])
        )

    return until(trains, lambda: (events(run), said(order, job)))


def said(order, job):
    return "".join(log.read_text() for log in Slurm().logs(Path(order.folder), job) if log.exists())


def test_whatever_ends_a_job_it_goes_on_and_ends_with_the_same_weights(send, speech, tmp_path):
    alone, file = order_of(speech, tmp_path / "alone", *STEPS)
    undisturbed = start_here(file)
    order, job = send()
    begins(order, 1, job)
    shell("scancel", "--signal=USR2", job)  # as before its time limit
    begins(order, 2, job)
    shell(
        "sbatch", "--partition=high", "--nodes=2", "--exclusive", f"--output={tmp_path}/log", "--wrap=sleep 1"
    )
    until(lambda: live(job).state == "pending", lambda: live(job))  # preempted
    begins(order, 3, job)
    shell("scontrol", "requeue", job)  # SIGTERM, and an end a few seconds later
    began = begins(order, 4, job)
    os.kill(began["pid"], signal.SIGKILL)
    until(lambda: live(job).state == "ended")
    assert live(job).reason == "exit 137 (SIGKILL)"
    (tmp_path / "go").touch()
    order, job = send(number=1)
    until(lambda: live(job).state == "ended", lambda: said(order, job))
    assert [(end["outcome"], end["again"]) for end in ends(order)] == [
        ("stopped", True),
        ("stopped", True),
        ("stopped", False),
        ("done", False),
    ]
    starts = [event["step"] for event in events(Path(order.run)) if event["event"] == "began"]
    assert starts == sorted(starts)
    assert finish(undisturbed)[0] == 0
    assert weights_hash(Path(order.run)) == weights_hash(Path(alone.run))


def test_jobs_that_are_not_wanted_or_cannot_go_on_stay_ended(send):
    cancelled, job = send("run.seed=1")
    stopped, other = send("run.seed=2", number=1)
    crashing, third = send("run.seed=3", number=2)
    (Path(crashing.run) / "metrics.jsonl").mkdir()  # it cannot write there
    begins(cancelled, 1, job)
    note(Path(cancelled.run), "cancelled", job=job, kind="train")
    Slurm().cancel([job])
    begins(stopped, 1, other)
    shell("scancel", other)
    for one, order in ((job, cancelled), (other, stopped)):
        until(lambda one=one: live(one).state == "ended")
        assert live(one).reason == "CANCELLED"
        assert [(end["outcome"], end["again"]) for end in ends(order)] == [("stopped", False)]
        assert ends(order)[0]["step"] > 0  # it has saved
    until(lambda: live(third).state == "ended", lambda: said(crashing, third))
    assert live(third).reason == "exit 1"
    assert [end["again"] for end in ends(crashing)] == [True, False]
    assert ends(crashing)[1]["error"].startswith("IsADirectoryError: ")
    assert f"\n{ends(crashing)[1]['error']}\n" in said(crashing, third)


def test_two_nodes_are_warned_and_go_on_together(send, tmp_path):
    order, job = send("train.batches=2", "train.steps=60", nodes=2)
    begins(order, 1, job)
    shell("scancel", "--signal=USR2", job)
    until(lambda: ends(order), lambda: said(order, job))
    (tmp_path / "go").touch()
    until(lambda: live(job).state == "ended", lambda: said(order, job))
    assert [(end["outcome"], end["again"]) for end in ends(order)] == [("stopped", True), ("done", False)]
    assert live(job).reason == "COMPLETED"
