"""Jobs on a real SLURM: submitted, watched, cancelled, refused."""

import json
import os

import pytest

from research.errors import HarkError
from tests.slurm.queue import ROOT

WAIT = "import os, time\nwhile not os.path.exists('{}'): time.sleep(0.05)\n"  # for a file
STAY = "import time; time.sleep(600)"  # until it is cancelled


def test_an_array_runs_from_queue_to_end(queue, tmp_path):
    lines = [WAIT.format("go") + f"print('cell', {i}, flush=True); open('here', 'a')" for i in range(3)]
    lines += ["print('last', flush=True)\n" + WAIT.format("end") + "raise SystemExit(3)"]
    ids = queue.send(*lines, parallel=3)
    main = ids[0].partition("_")[0]
    assert ids == [f"{main}_{i}" for i in range(4)]  # one array
    states = queue.states(ids)
    assert {live.state for live in states.values()} <= {"pending", "running"}
    (tmp_path / "go").touch()
    assert queue.until(ids[3], "running").where.startswith("127.0.0.")
    (tmp_path / "end").touch()
    for job in ids[:3]:
        live = queue.until(job, "ended")
        assert (live.reason, live.starts) == ("COMPLETED", 1)
    assert queue.until(ids[3], "ended").reason == "exit 3"
    for i in range(3):
        out, err = queue.logs(tmp_path, ids[i])
        assert f"cell {i}\n" in out.read_text()
        assert err.exists()
    assert (tmp_path / "here").exists()  # where the user typed the command


def test_a_job_starts_with_the_users_lines_and_then_with_the_code_of_its_order(queue, tmp_path):
    show = "import os, sys, json; json.dump({**os.environ, 'path': sys.path[0]}, open('seen', 'w'))"
    (job,) = queue.send(show, setup=["export MINE='a b'", "export PYTHONPATH=/old"], cpus=2)
    assert queue.until(job, "ended").reason == "COMPLETED"
    seen = json.loads((tmp_path / "seen").read_text())
    assert (seen["MINE"], seen["PYTHONPATH"], seen["PYTHONSAFEPATH"]) == ("a b", str(ROOT), "1")
    assert seen["path"] == str(ROOT)  # not the folder that it starts in
    assert seen["SLURM_CPUS_PER_TASK"] == "2"
    assert seen["SLURM_JOB_PARTITION"] == "high"


def test_what_is_set_for_another_job_or_for_other_commands_changes_nothing(queue, monkeypatch):
    for name, value in {
        "SLURM_JOB_ID": "7", "SLURM_NTASKS_PER_NODE": "9", "SLURM_MEM_PER_CPU": "1", "SLURM_MEM_PER_NODE": "2",
        "SBATCH_TIMELIMIT": "nonsense", "SBATCH_PARTITION": "nope", "SQUEUE_USERS": "nobody", "RANK": "3",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    do = "import os; assert os.environ['SLURM_NTASKS'] == '1' and 'RANK' not in os.environ"
    (job,) = queue.send(do, partition="low")
    assert queue.until(job, "ended").reason == "COMPLETED"
    assert os.environ["SLURM_JOB_ID"] == "7"
    with pytest.raises(
        HarkError, match=r"invalid partition"
    ):  # the user's default, where nothing else is said
        queue.send("pass")


def test_no_more_than_parallel_run_at_a_time(queue):
    ids = queue.send(*[STAY] * 3, parallel=2)
    queue.until(ids[1], "running")
    live = queue.until(ids[2], "pending", "JobArrayTaskLimit")
    assert live.starts == 0


def test_one_job_is_no_array_and_waits_for_another(queue, tmp_path):
    first = queue.send(WAIT.format("go"))
    assert "_" not in first[0]
    second = queue.send("pass", after=first, name="b")
    queue.until(second[0], "pending", "Dependency")
    (tmp_path / "go").touch()
    queue.until(first[0], "ended", "COMPLETED")
    queue.until(second[0], "ended", "COMPLETED")


def test_tasks_of_an_array_wait_one_for_one_and_never_for_what_failed(queue):
    first = queue.send("pass", "raise SystemExit(1)", STAY)
    second = queue.send("pass", "pass", "pass", after=first, name="b")
    queue.until(second[0], "ended", "COMPLETED")
    queue.until(second[1], "ended", "CANCELLED")
    assert queue.until(second[2], "pending").reason == "Dependency"


def test_cancel_ends_what_waits_and_what_runs_and_passes_over_what_has_ended(queue):
    ids = queue.send("pass", *[STAY] * 2, parallel=2)
    queue.until(ids[0], "ended")
    queue.until(ids[1], "running")
    held = queue.send("pass", name="held", extra={"hold": True})
    queue.cancel([*ids, *held, "1", "2_3"])
    assert queue.until(ids[0], "ended").reason == "COMPLETED"
    assert queue.until(ids[1], "ended").reason == "CANCELLED"
    assert queue.until(held[0], "ended") == queue.states(held)[held[0]]
    queue.cancel(ids)
    queue.cancel([])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"partition": "nope"}, "invalid partition.*; change cluster.partition"),
        ({"constraint": "nope"}, "Invalid feature.*; change cluster.constraint"),
        ({"memory_gb": 500}, "Memory specification can not be satisfied.*; change cluster.memory_gb"),
        ({"device": "h100", "per_node": 8}, "generic resource.*; change cluster.per_node or cluster.device"),
        ({"extra": {"frobnicate": 1}}, "unrecognized option '--frobnicate=1'; change cluster.extra"),
    ],
)
def test_a_refusal_names_the_key(queue, tmp_path, settings, words):
    with pytest.raises(HarkError, match=f"^SLURM refuses the job: .*{words}$") as caught:
        queue.send("pass", "pass", **settings)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "logs").glob("*.pkl"))


def test_without_slurm_the_way_out_is_told(queue, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HarkError, match=r"there is no SLURM on this machine.*cluster=local"):
        queue.states(["1"])


def test_how_a_job_ended_long_ago_is_what_the_accounting_says(queue, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "sacct").write_text(f"#!/bin/sh\ncat <<END\n{SACCT}\nEND\n")
    (tmp_path / "sacct").chmod(0o755)
    states = queue.states(["5_0", "5_1", "5_2", "6", "7", "8"])
    assert {job: live.reason for job, live in states.items()} == {
        "5_0": "COMPLETED", "5_1": "exit 1", "5_2": "exit 137 (SIGKILL)", "6": "CANCELLED", "7": "NODE_FAIL",
    }  # fmt: skip
    assert {live.state for live in states.values()} == {"ended"}


SACCT = """\
5_0|COMPLETED|0:0|n1
5_1|FAILED|1:0|n1
5_2|FAILED|0:9|n1
5_[3-9%2]|PENDING|0:0|None assigned
6|CANCELLED by 1000|0:15|n2
7|NODE_FAIL|0:0|n3"""
