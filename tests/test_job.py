"""Jobs: what they train, what they write down, what stops them and what does not."""

import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from research.launch.sweep.job import Job
from research.launch.sweep.ledger import events
from research.launch.sweep.order import read_order
from tests.jobs import ends, order_of, start
from tests.runs import finish, go, held, weights_hash

STEPS = "train.steps=12"


def work(file, **env):
    """Do a job; give its exit code and what it said."""
    return finish(start(file, **env))


@pytest.fixture(scope="module")
def undisturbed(speech, tmp_path_factory):
    """The weights of a run that nothing has stopped."""
    order, file = order_of(speech, tmp_path_factory.mktemp("undisturbed") / "runs", STEPS)
    assert work(file)[0] == 0
    return weights_hash(Path(order.run))


@pytest.fixture
def job(speech, tmp_path):
    return order_of(speech, tmp_path / "runs", STEPS)


def listens(process):
    """Whether it catches SIGUSR2."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return int(caught.split()[1], 16) >> (signal.SIGUSR2 - 1) & 1


def at(moment, run, process):
    """Return in the middle of something."""
    metrics = run / "metrics.jsonl"
    reached = {
        "importing": lambda: listens(process),
        "reading": (run / "lock").exists,
        "training": lambda: metrics.exists() and '"step": 2,' in metrics.read_text(),
        "saving": lambda: any(run.glob("checkpoints/step_*.tmp")),
    }[moment]
    while not reached():
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


def test_a_job_trains_its_run_and_says_so(job):
    order, file = job
    assert work(file)[0] == 0
    began, ended = events(Path(order.run))
    assert (began["event"], began["job"], began["kind"], began["step"]) == ("began", "j", "train", 0)
    assert {"host", "pid", "logs"} <= began.keys()
    assert (ended["outcome"], ended["step"], ended["again"]) == ("done", 12, False)
    assert work(file)[0] == 0  # once more: there is nothing to do
    assert [end["outcome"] for end in ends(order)] == ["done", "done"]


@pytest.mark.parametrize("moment", ["importing", "reading", "training", "saving"])
def test_a_warned_job_saves_and_asks_to_be_started_again(job, moment, undisturbed):
    order, file = job
    environment = held(file.parent, **({"save": 4} if moment == "saving" else {"step": 3}))
    process = start(file, **environment)
    at(moment, Path(order.run), process)
    process.send_signal(signal.SIGUSR2)
    process.send_signal(signal.SIGTERM)  # the end that the warning was of changes nothing
    go(environment)
    code, said = finish(process)
    assert code == 75, said
    [end] = ends(order)
    assert (end["outcome"], end["again"], end["error"]) == ("stopped", True, "")
    assert 1 <= end["step"] <= 9
    code, said = work(file, HARK_STARTS="1")
    assert code == 0, said
    assert weights_hash(Path(order.run)) == undisturbed


def test_a_killed_job_goes_on_from_its_checkpoint(job, undisturbed):
    order, file = job
    process = start(file, **held(file.parent, 6))
    at("training", Path(order.run), process)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert ends(order) == []
    assert work(file)[0] == 0
    assert weights_hash(Path(order.run)) == undisturbed


def test_a_terminated_job_saves_and_leaves(job):
    order, file = job
    environment = held(file.parent, 6)
    process = start(file, **environment)
    at("training", Path(order.run), process)
    process.terminate()
    go(environment)
    assert finish(process)[0] == 128 + signal.SIGTERM
    [end] = ends(order)
    assert (end["outcome"], end["again"]) == ("stopped", False)
    assert 2 <= end["step"] < 12


def test_the_same_error_twice_is_enough_another_is_not(job):
    order, file = job
    run = Path(order.run)
    (run / "cost.json.part").mkdir()  # breaks the first save
    assert work(file)[0] == 75
    (run / "cost.json.part").rmdir()
    (run / "metrics.jsonl").rename(run / "aside")
    (run / "metrics.jsonl").mkdir()
    assert work(file, HARK_STARTS="1")[0] == 75  # another one
    code, said = work(file, HARK_STARTS="2")
    assert code == 1
    first, second, third = ends(order)
    assert [end["again"] for end in ends(order)] == [True, True, False]
    assert "cost.json.part" in first["error"]
    assert second["error"] == third["error"] == said.strip().splitlines()[-1]
    assert third["error"].startswith("IsADirectoryError: ")
    assert third["outcome"] == "failed"


def test_bad_input_is_told_at_once_and_never_again(job):
    order, file = job
    values = order.values | {"data": order.values["data"] | {"batch_seconds": 1.0}}
    replace(order, values=values).save(file)
    assert work(file)[0] == 1
    [end] = ends(order)
    assert not end["again"]
    assert "takes this config for another run" in end["error"]
    values = order.values | {"encoder": order.values["encoder"] | {"gone": 3}}
    replace(order, values=values).save(file)
    assert work(file)[0] == 1
    assert "does not know this config" in ends(order)[-1]["error"]
    assert "gone" in ends(order)[-1]["error"]


def test_a_job_comes_back_to_the_folder_of_its_run_whatever_its_name(job):
    order, file = job
    run = Path(order.run)
    moved = run.rename(run.with_name(run.name.replace("run-", "old-")))
    replace(order, run=str(moved)).save(file)
    assert work(file)[0] == 0
    assert [path.name for path in run.parent.iterdir() if path.name != "sweeps"] == [moved.name]


def test_probes_of_a_run_are_a_job_too(job, corpus):
    order, file = job
    assert work(file)[0] == 0
    words = ["--train", str(corpus / "phones_train.jsonl"), "--test", str(corpus / "phones_test.jsonl")]
    words += [
        "--probe",
        "phone_frames",
        "--sentences",
        "4",
        "--dev",
        "2",
        "--seeds",
        "2",
        "--baseline",
        "log_mel",
    ]
    replace(order, kind="probe", probe=words).save(file)
    code, said = work(file)
    assert code == 0, said
    assert [end["outcome"] for end in ends(order, "probe")] == ["done"]
    assert (Path(order.run) / "probes.jsonl").exists()
    replace(order, kind="probe", probe=["--sedes", "4"]).save(file)
    assert work(file, HARK_STARTS="1")[0] != 0
    assert ends(order, "probe")[-1]["outcome"] == "failed"


def test_submitit_can_call_it_and_start_it_anew(job):
    delayed = Job(str(job[1])).checkpoint()
    assert delayed.function == Job(str(job[1]))
    assert read_order(Path(delayed.function.path)) == job[0]
