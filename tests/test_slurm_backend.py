"""Jobs on a real SLURM: submitted, watched, cancelled, lost and found again."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from research.config import Cluster, Scheduler
from research.errors import HarkError
from research.launch.sweep.order import Order
from research.launch.sweep.slurm import Slurm
from tests.slurm.jobs import Task

ROOT = Path(__file__).parents[1]
BACKEND = Slurm(Task)


def cluster_with(**settings):
    return Cluster(**{"scheduler": Scheduler.slurm, "cpus": 1, "memory_gb": 0.5, **settings})


@pytest.fixture
def queue(slurm, tmp_path):
    """Submit jobs that do these lines of Python, and give their ids."""

    def submit(*lines, name="a sweep", after=(), **settings):
        files, jobs = [], []
        for i, line in enumerate(lines):
            order = Order(
                str(tmp_path), "x", str(tmp_path), str(ROOT), str(tmp_path), values={"do": line},
                after=after[i] if after else "",
            )  # fmt: skip
            files.append(tmp_path / f"{name}-{i}.json")
            order.save(files[-1])
            jobs.append(order)
        return BACKEND.submit(files, jobs, cluster_with(**settings), name)

    yield submit
    slurm.up()
    slurm.clear()


def until(job, state, reason=None):
    end = time.monotonic() + 60
    while True:
        live = BACKEND.states([job])[job]
        if live.state == state and reason in (None, live.reason):
            return live
        assert time.monotonic() < end, live
        time.sleep(0.1)


def test_an_array_runs_from_queue_to_end(queue, tmp_path):
    lines = [f"print('cell', {i}, flush=True); open('here', 'a')" for i in range(3)]
    lines += ["print('last', flush=True); import time; time.sleep(2); raise SystemExit(3)"]
    ids = queue(*lines, parallel=3)
    main = ids[0].partition("_")[0]
    assert ids == [f"{main}_{i}" for i in range(4)]  # one array
    states = BACKEND.states(ids)
    assert {live.state for live in states.values()} <= {"pending", "running"}
    assert until(ids[3], "running").where.startswith("127.0.0.")
    for job in ids[:3]:
        live = until(job, "ended")
        assert (live.reason, live.starts) == ("COMPLETED", 1)
    assert until(ids[3], "ended").reason == "exit 3"
    for i in range(3):
        out, err = BACKEND.logs(tmp_path, ids[i])
        assert f"cell {i}\n" in out.read_text()
        assert err.exists()
    assert (tmp_path / "here").exists()  # where the user typed the command


def test_no_more_than_parallel_run_at_a_time(queue):
    ids = queue(*["import time; time.sleep(30)"] * 3, parallel=2)
    until(ids[1], "running")
    live = until(ids[2], "pending", "JobArrayTaskLimit")
    assert live.starts == 0


def test_one_job_is_no_array_and_waits_for_another(queue):
    first = queue("import time; time.sleep(3)")
    assert "_" not in first[0]
    second = queue("pass", after=first, name="b")
    until(second[0], "pending", "Dependency")
    until(first[0], "ended", "COMPLETED")
    until(second[0], "ended", "COMPLETED")


def test_tasks_of_an_array_wait_one_for_one_and_never_for_what_failed(queue):
    first = queue("pass", "raise SystemExit(1)", "import time; time.sleep(60)")
    second = queue("pass", "pass", "pass", after=first, name="b")
    until(second[0], "ended", "COMPLETED")
    until(second[1], "ended", "CANCELLED")
    assert until(second[2], "pending").reason == "Dependency"


def test_cancel_ends_what_waits_and_what_runs_and_passes_over_what_has_ended(queue):
    ids = queue("pass", *["import time; time.sleep(60)"] * 2, parallel=2)
    until(ids[0], "ended")
    until(ids[1], "running")
    held = queue("pass", name="held", extra={"hold": True})
    BACKEND.cancel([*ids, *held, "1", "2_3"])
    assert until(ids[0], "ended").reason == "COMPLETED"
    assert until(ids[1], "ended").reason == "CANCELLED"
    assert until(held[0], "ended") == BACKEND.states(held)[held[0]]
    BACKEND.cancel(ids)
    BACKEND.cancel([])


def test_a_killed_job_tells_the_signal(queue, tmp_path):
    (job,) = queue("import os, time; open('pid', 'w').write(str(os.getpid())); os.sync(); time.sleep(60)")
    until(job, "running")
    pid = tmp_path / "pid"
    end = time.monotonic() + 60
    while not (pid.exists() and pid.read_text()):
        assert time.monotonic() < end
        time.sleep(0.1)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert until(job, "ended").reason == "exit 137 (SIGKILL)"
    assert "1" not in BACKEND.states([job, "1"])  # of what is unknown, nothing is said


def test_a_job_goes_on_under_its_id_and_in_its_logs_when_it_is_queued_again(queue, slurm, tmp_path):
    (job,) = queue("import os, time; n = os.environ.get('SLURM_RESTART_COUNT'); print('start', n, flush=True);"
                   "n or time.sleep(60)")  # fmt: skip
    until(job, "running")
    out = BACKEND.logs(tmp_path, job)[0]
    end = time.monotonic() + 60
    while not out.exists() or "start" not in out.read_text():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert slurm.client("scontrol", "requeue", job).returncode == 0
    live = until(job, "ended")
    assert (live.reason, live.starts) == ("COMPLETED", 2)
    assert "start None" in out.read_text()
    assert "start 1" in out.read_text()


def test_without_an_answer_nothing_is_known_and_nothing_lost(queue, slurm):
    ids = queue("import time; time.sleep(60)")
    until(ids[0], "running")
    slurm.saved()
    slurm.kill_controller()
    with pytest.raises(HarkError, match=r"SLURM does not answer \(.*Unable to contact slurm controller"):
        BACKEND.states(ids)
    slurm.start_controller()
    assert BACKEND.states(ids)[ids[0]].state == "running"


def test_a_submission_that_was_not_noted_down_is_found_by_its_name(queue):
    name = "a, b|" + "long " * 20  # whatever a sweep may be called
    ids = queue(*["pass"] * 3, name=name)
    single = queue("pass", name="single")
    assert BACKEND.recover(name, 3) == ids
    assert BACKEND.recover("single", 1) == single
    assert BACKEND.recover("none", 1) is None


def test_half_a_submission_is_taken_back(queue, tmp_path):
    more = queue("pass", "pass", name="more", extra={"hold": True})
    torn = queue("pass", "pass", name="torn", extra={"hold": True})
    (tmp_path / f"logs/{torn[1]}_submitted.pkl").unlink()  # killed behind sbatch: submitit names them last
    assert BACKEND.recover("more", 3) is None
    assert BACKEND.recover("torn", 2) is None
    assert {live.state for live in BACKEND.states([*more, *torn]).values()} <= {"ended"}


def test_two_nodes_find_each_other(queue, tmp_path):
    (job,) = queue(TEAM, nodes=2, per_node=1)
    assert until(job, "ended").reason == "COMPLETED", BACKEND.logs(tmp_path, job)[-1].read_text()
    ranks = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(2)]
    assert [rank["sum"] for rank in ranks] == [3.0, 3.0]
    assert [rank["RANK"] for rank in ranks] == ["0", "1"]
    assert {rank["WORLD_SIZE"] for rank in ranks} == {"2"}
    assert {rank["MASTER_ADDR"] for rank in ranks} == {"127.0.0.1"}
    assert {rank["SLURMD_NODENAME"] for rank in ranks} == {"127.0.0.1", "127.0.0.2"}
    names = [path.name for path in BACKEND.logs(tmp_path, job)]
    assert names == [f"{job}_{rank}_log.{kind}" for kind in ("out", "err") for rank in (0, 1)]


TEAM = """
import json, os
import torch
from submitit.helpers import TorchDistributedEnvironment
rank = TorchDistributedEnvironment().export(set_cuda_visible_devices=False).rank
torch.distributed.init_process_group("gloo")
sum = torch.tensor(1.0 + rank)
torch.distributed.all_reduce(sum)
json.dump({**os.environ, "sum": sum.item()}, open(f"rank{rank}", "w"))
torch.distributed.destroy_process_group()
"""


def test_others_of_a_team_end_with_the_first_that_dies(queue):
    (job,) = queue(
        "import os, time; time.sleep(60) if os.environ['SLURM_PROCID'] == '0' else os._exit(9)",
        nodes=2, per_node=2,
    )  # fmt: skip
    assert until(job, "ended").reason.startswith("exit ")


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
        queue("pass", "pass", **settings)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "logs").glob("*.pkl"))


def test_without_slurm_the_way_out_is_told(queue, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HarkError, match=r"there is no SLURM on this machine.*cluster=local"):
        BACKEND.states(["1"])
