"""Jobs on a real SLURM: killed, queued again, lost and found; several processes of one job."""

import json
import os
import re
import signal

import pytest

from research.errors import HarkError
from tests.slurm.queue import until


def test_a_killed_job_tells_the_signal(queue, tmp_path):
    (job,) = queue.send("import os, time; print(os.getpid(), flush=True); time.sleep(60)")
    out = queue.logs(tmp_path, job)[0]
    pid = until(lambda: out.exists() and re.search(r"^\d+$", out.read_text(), re.MULTILINE))
    os.kill(int(pid[0]), signal.SIGKILL)
    assert queue.until(job, "ended").reason == "exit 137 (SIGKILL)"
    assert "1" not in queue.states([job, "1"])  # of what is unknown, nothing is said


def test_a_signal_that_comes_before_python_is_ready_ends_nothing(queue, tmp_path, monkeypatch):
    early = "import os\nos.kill(os.getpid(), 12)\nos.kill(os.getpid(), 15)\nopen('early', 'w')\n"
    (tmp_path / "sitecustomize.py").write_text(early)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    ids = queue.send("pass", "pass")
    assert [queue.until(job, "ended").reason for job in ids] == ["COMPLETED"] * 2
    assert (tmp_path / "early").exists()


def test_a_job_goes_on_under_its_id_and_in_its_logs_when_it_is_queued_again(queue, slurm, tmp_path):
    (job,) = queue.send("import os, time; n = os.environ.get('SLURM_RESTART_COUNT'); print('start', n, flush=True);"
                   "n or time.sleep(60)")  # fmt: skip
    out = queue.logs(tmp_path, job)[0]
    until(lambda: out.exists() and "start None" in out.read_text())
    assert slurm.client("scontrol", "requeue", job).returncode == 0
    live = queue.until(job, "ended")
    assert (live.reason, live.starts) == ("COMPLETED", 2)
    assert "start None" in out.read_text()
    assert "start 1" in out.read_text()


def test_without_an_answer_nothing_is_known_and_nothing_lost(queue, slurm):
    ids = queue.send("import time; time.sleep(60)")
    queue.until(ids[0], "running")
    slurm.saved()
    slurm.kill_controller()
    with pytest.raises(HarkError, match=r"SLURM does not answer \(.*Unable to contact slurm controller"):
        queue.states(ids)
    slurm.start_controller()
    assert queue.states(ids)[ids[0]].state == "running"


def test_a_submission_that_was_not_noted_down_is_found_by_its_name(queue):
    name = "a, b|" + "long " * 20  # whatever a sweep may be called
    ids = queue.send(*["pass"] * 3, name=name)
    single = queue.send("pass", name="single")
    assert queue.recover(name, 3) == ids
    assert queue.recover("single", 1) == single
    assert queue.recover("none", 1) is None


def test_half_a_submission_is_taken_back(queue, tmp_path):
    more = queue.send("pass", "pass", name="more", extra={"hold": True})
    torn = queue.send("pass", "pass", name="torn", extra={"hold": True})
    (tmp_path / f"logs/{torn[1]}_submitted.pkl").unlink()  # killed behind sbatch: submitit names them last
    assert queue.recover("more", 3) is None
    assert queue.recover("torn", 2) is None
    assert {live.state for live in queue.states([*more, *torn]).values()} == {
        "pending"
    }  # looking ends nothing
    queue.take_back("more", 3, ())
    queue.take_back("torn", 2, ())
    assert {live.state for live in queue.states([*more, *torn]).values()} <= {"ended"}


def test_two_nodes_find_each_other(queue, tmp_path):
    (job,) = queue.send(TEAM, nodes=2, per_node=1)
    assert queue.until(job, "ended").reason == "COMPLETED", queue.logs(tmp_path, job)[-1].read_text()
    ranks = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in range(2)]
    assert [rank["sum"] for rank in ranks] == [3.0, 3.0]
    assert [rank["RANK"] for rank in ranks] == ["0", "1"]
    assert {rank["WORLD_SIZE"] for rank in ranks} == {"2"}
    assert {rank["MASTER_ADDR"] for rank in ranks} == {"127.0.0.1"}
    assert {rank["SLURMD_NODENAME"] for rank in ranks} == {"127.0.0.1", "127.0.0.2"}
    names = [path.name for path in queue.logs(tmp_path, job)]
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
    (job,) = queue.send(
        "import os, time; time.sleep(600) if os.environ['SLURM_PROCID'] == '0' else os._exit(9)",
        nodes=2, per_node=2,
    )  # fmt: skip
    assert queue.until(job, "ended").reason.startswith("exit ")
