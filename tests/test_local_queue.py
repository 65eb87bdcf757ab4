"""Jobs on this machine: started in turn, whatever becomes of the shell, of the process that starts them, of them."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from research.config import Cluster
from research.errors import HarkError
from research.launch.sweep.local import Local
from research.launch.sweep.local_start import start
from research.launch.sweep.order import Order
from research.launch.sweep.spool import Batch, Now, Process, Spool, code_of
from tests.jobs import ends, order_of
from tests.runs import ROOT, weights_hash

LONG = 120.0  # s that processes may take to start and end

CODE = """
import json, os, signal, sys, time
from pathlib import Path

order = json.loads(Path(sys.argv[1]).read_text())
run = Path(order["run"])
signal.signal(signal.SIGUSR2, lambda *_: sys.exit(75))
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
rank, starts = os.environ.get("RANK", "0"), int(os.environ["HARK_STARTS"])
print("rank", rank, "of", os.environ.get("WORLD_SIZE"), "in", Path.cwd().name, os.environ["HARK_JOB"], flush=True)
(run / f"began.{starts}.{rank}").write_text(str(os.getpid()))
while not (run / "go").exists():
    time.sleep(0.01)
sys.exit(int((run / "go").read_text().split()[min(starts, len((run / "go").read_text().split()) - 1)]))
"""


@pytest.fixture
def root(tmp_path):
    """The folder of runs, and code whose jobs wait for a file `go` that holds their exit codes."""
    file = tmp_path / "code" / "research" / "launch" / "sweep" / "job.py"
    file.parent.mkdir(parents=True)
    file.write_text(CODE)
    yield tmp_path / "runs"
    local = Local(tmp_path / "runs")
    spool = Spool.here(tmp_path / "runs")
    for batch in spool.batches() if spool.folder.exists() else []:
        batch.process.send(signal.SIGKILL)
        for now in local_now(local, batch):
            for rank in now.ranks:
                rank.send(signal.SIGKILL)


def local_now(local, batch):
    return Spool.here(local.root).now(batch).values()


def write_orders(root, name, count, **changes):
    found = []
    for i in range(count):
        run, folder = root / f"{name}{i}", root / "sweeps" / "s"
        run.mkdir(parents=True)
        order = Order(str(run), "s", str(folder), str(root.parent / "code"), str(root), **changes)
        file = folder / "orders" / f"{name}-{i}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        order.save(file)
        found.append((file, order))
    return [file for file, _ in found], [order for _, order in found]


def submit(root, name, count, after="", **cluster):
    files, orders = write_orders(root, name, count, after=after)
    return Local(root).submit(files, orders, Cluster(**cluster), name)


def go(root, run, codes="0"):
    part = root / run / "part"
    part.write_text(codes)
    part.rename(root / run / "go")


def wait(root, **wanted):
    """Wait until jobs are in states; give what is known of them."""
    end = time.monotonic() + LONG
    while True:
        live = Local(root).states(wanted)
        if {job: one.state for job, one in live.items()} == wanted:
            return live
        assert time.monotonic() < end, live
        time.sleep(0.02)


def states(root, jobs, *names):
    return wait(root, **dict(zip(jobs, names, strict=True)))


def process_of(root, job):
    return Spool.here(root).batch(code_of(job)).process


def ranks_of(root, job):
    spool = Spool.here(root)
    return spool.now(spool.batch(code_of(job)))[job].ranks


def test_jobs_outlive_the_shell_that_submitted_them(root):
    files, _ = write_orders(root, "a", 2)
    code = f"""
from pathlib import Path
from research.config import Cluster
from research.launch.sweep.local import Local
from research.launch.sweep.order import read_order
files = [Path(file) for file in {[str(file) for file in files]}]
print(*Local(Path({str(root)!r})).submit(files, [read_order(file) for file in files], Cluster(), "a"))
"""
    words = [sys.executable, "-c", code]
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as shell:
        jobs = shell.communicate()[0].split()
        os.killpg(shell.pid, signal.SIGINT) if psutil.pid_exists(shell.pid) else None
    assert jobs == Local(root).recover("a", 2)
    live = states(root, jobs, "running", "pending")  # one at a time
    assert live[jobs[0]].where == Spool.here(root).folder.name
    assert live[jobs[1]].reason == "others are before it"
    go(root, "a0")
    live = states(root, jobs, "ended", "running")
    assert (live[jobs[0]].reason, live[jobs[0]].starts) == ("exit 0", 1)
    go(root, "a1")
    states(root, jobs, "ended", "ended")
    out, err = Local(root).logs(root / "sweeps" / "s", jobs[1])
    assert out.read_text() == f"rank 0 of None in runs {jobs[1]}\n"
    assert err.read_text() == ""
    gone(process_of(root, jobs[0]))


def gone(process):
    end = time.monotonic() + LONG
    while process.alive:
        assert time.monotonic() < end
        time.sleep(0.02)


def appeared(file):
    """Wait for a file."""
    end = time.monotonic() + LONG
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_submissions_count_together_the_oldest_first(root):
    one = submit(root, "a", 3, parallel=2)
    states(root, one, "running", "running", "pending")
    two = submit(root, "b", 1, parallel=3)
    time.sleep(0.5)
    states(root, [*one, *two], "running", "running", "pending", "pending")  # room, but not its turn
    go(root, "a0")
    states(root, [*one, *two], "ended", "running", "running", "running")


def test_what_asks_to_be_started_again_is(root):
    [job] = submit(root, "a", 1)
    go(root, "a0", "75 75 0")
    live = states(root, [job], "ended")
    assert (live[job].reason, live[job].starts) == ("exit 0", 3)


@pytest.mark.parametrize(("codes", "reason"), [("3", "exit 3"), ("75 1", "exit 1")])
def test_a_job_that_fails_is_over(root, codes, reason):
    jobs = submit(root, "a", 2)
    go(root, "a0", codes)
    assert states(root, jobs, "ended", "running")[jobs[0]].reason == reason


def test_killed_jobs_end_alone(root):
    jobs = submit(root, "a", 2)
    states(root, jobs, "running", "pending")
    ranks_of(root, jobs[0])[0].send(signal.SIGKILL)
    assert states(root, jobs, "ended", "running")[jobs[0]].reason == "exit 137 (SIGKILL)"


def test_when_the_starting_process_is_killed_jobs_run_on_and_nothing_starts(root):
    jobs = submit(root, "a", 2)
    states(root, jobs, "running", "pending")
    process_of(root, jobs[0]).send(signal.SIGKILL)
    live = states(root, jobs, "running", "ended")
    assert "was killed" in live[jobs[1]].reason
    more = submit(root, "b", 1)
    time.sleep(0.5)
    states(root, [*jobs, *more], "running", "ended", "pending")  # it counts still
    Local(root).cancel(jobs)
    states(root, [*jobs, *more], "ended", "ended", "running")
    assert not (root / "a1" / "began.0.0").exists()


def test_told_to_end_it_ends_its_jobs_first(root):
    jobs = submit(root, "a", 2)
    states(root, jobs, "running", "pending")
    appeared(root / "a0" / "began.0.0")  # it listens
    process = process_of(root, jobs[0])
    process.send(signal.SIGTERM)
    live = states(root, jobs, "ended", "ended")
    assert [live[job].reason for job in jobs] == ["exit 143", "the process that was to start it was stopped"]
    gone(process)


@pytest.mark.parametrize("turned", [False, True])
def test_cancelled_jobs_stop_or_never_start(root, monkeypatch, turned):
    jobs = submit(root, "a", 3, parallel=1)
    states(root, jobs, "running", "pending", "pending")
    unwanted = [jobs[1], jobs[0]] if turned else [jobs[0], jobs[1]]
    alive = Process.alive.fget
    with monkeypatch.context() as patch:  # what is told to end has ended before the next one is told
        patch.setattr(Process, "alive", property(lambda process: time.sleep(0.5) or alive(process)))
        Local(root).cancel([*unwanted, "local-0000-1", "123_4"])
    live = states(root, jobs, "ended", "ended", "running")
    assert live[jobs[0]].reason == live[jobs[1]].reason == "cancelled"
    assert live[jobs[1]].starts == 0
    go(root, "a2")
    states(root, jobs, "ended", "ended", "ended")
    Local(root).cancel(jobs)
    assert not Spool.here(root).cancel(jobs[2]).exists()  # it had ended


@pytest.mark.parametrize(("codes", "second"), [("0", "running"), ("1", "ended")])
def test_a_job_waits_for_another_submission_s_success(root, codes, second):
    [first] = submit(root, "a", 1, parallel=2)
    [job] = submit(root, "b", 1, after=first, parallel=2)
    [other] = submit(root, "c", 1, parallel=2)
    live = states(root, [first, job, other], "running", "pending", "running")  # it is in nobody's way
    assert live[job].reason == f"after {first}"
    go(root, "a0", codes)
    live = states(root, [first, job], "ended", second)
    assert second == "running" or live[job].reason == f"{first} had to succeed first, and did not"


def test_ranks_do_not_stay_when_another_cannot_be_started(root, monkeypatch):
    begun, real = [], subprocess.Popen

    def popen(*args, **kwargs):
        if begun:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        begun.append(real(["sleep", "600"], **kwargs))
        return begun[0]

    submit(root, "a", 1, per_node=2)
    (batch,) = Spool.here(root).batches()
    monkeypatch.setattr("research.launch.sweep.local_start.subprocess.Popen", popen)
    with pytest.raises(BlockingIOError):
        start(batch, batch.jobs[0], 0)
    assert begun[0].returncode == -signal.SIGKILL


def test_hours_are_kept(root):
    [job] = submit(root, "a", 1, hours=45 / 3600, warning=30)  # 15 s to get as far as to listen
    appeared(root / "a0" / "began.1.0")  # warned, and started again
    assert Local(root).states([job])[job].starts == 2


def test_a_job_that_does_not_listen_is_killed_at_its_limit(root):
    file = root.parent / "code" / "research" / "launch" / "sweep" / "job.py"
    file.write_text(CODE.replace("lambda *_: sys.exit(75)", "signal.SIG_IGN"))
    deaf = ["trap '' USR2"]  # before Python is there
    [job] = submit(root, "a", 1, hours=6 / 3600, warning=1, setup=deaf)
    assert states(root, [job], "ended")[job].reason == "time limit"


def test_setup_comes_before_python_and_other_ranks_and_jobs_stay_out(root, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("WORLD_SIZE", "8")
    file = root.parent / "code" / "research" / "launch" / "sweep" / "job.py"
    file.write_text(
        "import os\nprint(os.environ['MINE'], 'SLURM_JOB_ID' in os.environ, 'WORLD_SIZE' in os.environ)"
    )
    [job] = submit(root, "a", 1, setup=["export MINE=1", "MINE=2"])
    states(root, [job], "ended")
    assert Local(root).logs(root / "sweeps" / "s", job)[0].read_text() == "2 False False\n"


def test_of_another_machine_only_what_it_wrote_is_known(root):
    [job] = submit(root, "a", 1)
    states(root, [job], "running")
    spool = Spool.here(root)
    process_of(root, job).send(signal.SIGKILL)
    there = spool.folder.rename(spool.folder.with_name("elsewhere"))
    live = Local(root).states([job])[job]
    assert (live.state, live.where) == ("running", "elsewhere")
    assert "0 min ago" in live.reason
    Local(root).cancel([job])
    assert Spool(there).cancel(job).exists()  # for the process over there
    there.rename(spool.folder)


def test_a_job_that_ends_while_it_is_asked_for_has_ended_as_it_did(tmp_path, monkeypatch):
    spool, batch = Spool.here(tmp_path), Batch("a", 0.0, ["a.json"], [""], {}, Process(1, 0.0))
    [job] = batch.jobs

    def leaves(_):
        spool.put(batch, {job: Now("ended", "exit 0", starts=1, succeeded=True)})
        return False

    spool.folder.mkdir(parents=True)
    spool.put(batch, {job: Now("running", starts=1)})
    monkeypatch.setattr(Process, "alive", property(leaves))
    now = spool.now(batch)[job]
    assert (now.state, now.reason, now.succeeded) == ("ended", "exit 0", True)


def test_a_number_that_another_process_took_over_is_not_it():
    process = Process.of(os.getpid())
    assert process.alive
    assert not replace(process, created=process.created - 100).alive


def test_more_than_one_node_is_refused(root):
    with pytest.raises(HarkError, match=r"cluster.nodes=2: .*cluster=slurm"):
        submit(root, "a", 1, nodes=2)


def test_nothing_is_known_of_what_was_never_submitted(root):
    assert Local(root).recover("a", 1) is None
    assert Local(root).states(["local-00000000-0", "17", "17_3"]) == {}


PLUGIN = """
import os
from pathlib import Path

from research.training import loop

if os.environ["RANK"] == "1" and os.environ["HARK_STARTS"] == "0":
    calls, step = [], loop.train_step

    def breaks(*args, **named):
        calls.append(1)
        if len(calls) == 6:
            raise RuntimeError("the second rank had an idea of its own")
        return step(*args, **named)

    loop.train_step = breaks
"""


def test_two_ranks_tell_the_error_of_the_first_that_failed_and_go_on(speech, tmp_path, monkeypatch):
    (tmp_path / "breaking.py").write_text(PLUGIN)
    monkeypatch.setenv("HARK_PLUGINS", "breaking")
    monkeypatch.setattr("research.registry.broken", {})  # it is on the path of jobs only
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runs = {}
    for name, ranks in (("one", 1), ("two", 2)):
        order, file = order_of(
            speech,
            tmp_path / name,
            "train.steps=8",
            "train.batches=2",
            cwd=str(tmp_path if ranks == 2 else ROOT),
        )
        [job] = Local(tmp_path / name).submit([file], [order], Cluster(per_node=ranks), name)
        end = time.monotonic() + 300
        while (live := Local(tmp_path / name).states([job])[job]).state != "ended" and time.monotonic() < end:
            time.sleep(0.02)
        logs = Local(tmp_path / name).logs(Path(order.folder), job)
        assert live.reason == "exit 0", "".join(log.read_text() for log in logs)
        runs[name] = order
    first, last = ends(runs["two"])
    assert first["error"] == "RuntimeError: the second rank had an idea of its own"
    assert (first["outcome"], first["again"]) == ("failed", True)
    assert first["step"] in (0, 4)  # it is written in the background
    assert (last["outcome"], last["step"]) == ("done", 8)
    assert len(logs) == 4
    assert weights_hash(Path(runs["two"].run))
