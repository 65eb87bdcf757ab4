"""Where runs stand: every way in which a job can begin, end and vanish."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from research import runs
from research.errors import HarkError
from research.launch.sweep import slurm
from research.launch.sweep.backend import Live
from research.launch.sweep.ledger import note
from research.launch.sweep.order import Order
from research.launch.sweep.slurm import Slurm
from research.launch.sweep.standing import Standing, State, Wanted, standings, to_submit
from research.launch.sweep.submit import submit as sweep_submit

PENDING, RUNNING = Live("pending", "Resources"), Live("running", "", "node1", 2)
GONE = None
OVER = Live("ended", "NODE_FAIL")
BY_HAND = Live("ended", "CANCELLED by 1000")


class Scheduler:
    """What a scheduler would answer, and what it was asked."""

    name = "slurm"

    def __init__(self, lives, batches=(), *, answers=True):
        self.lives, self.batches, self.answers, self.asked = lives, dict(batches), answers, []

    def states(self, jobs):
        if not self.answers:
            raise HarkError("slurm does not answer")
        self.asked.append(sorted(jobs))
        return {job: self.lives[job] for job in jobs if self.lives.get(job)}

    def recover(self, name, count):
        ids = self.batches.get(name)
        assert ids is None or len(ids) == count
        return ids


def queue(run, batch="debs-1", number=0, kind="train"):
    order = run.parent / "sweeps" / "debs" / "orders" / f"{batch}-{number}.json"
    order.parent.mkdir(parents=True, exist_ok=True)
    order.touch()
    facts = {"scheduler": "slurm", "sweep": "debs", "batch": batch, "code": "code/abc", "order": str(order)}
    note(run, "queued", job="", kind=kind, **facts)


def submit(run, job="7_0", **how):
    queue(run, **how)
    note(run, "submitted", job=job, kind=how.get("kind", "train"), batch=how.get("batch", "debs-1"))


def began(run, job="7_0"):
    note(run, "began", job=job, kind="train", step=0, host="node1", pid=1)


def ended(run, outcome, error="", *, again=False, step=0):
    note(run, "ended", job="7_0", kind="train", outcome=outcome, error=error, again=again, step=step)


def cancel(run):
    note(run, "cancelled", job="7_0", kind="train")


def state(run, live=GONE):
    return standings([Wanted(run)], {"slurm": Scheduler({"7_0": live})})[0]


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run-abc"
    path.mkdir()
    return path


FAILED = [began, lambda run: ended(run, "failed", "ValueError: no")]
AGAIN = [began, lambda run: ended(run, "stopped", again=True)]
STOPPED = [began, lambda run: ended(run, "stopped")]
PRUNED = [began, lambda run: ended(run, "pruned")]
ALARMED = [began, lambda run: ended(run, "alarmed", "rank: it has collapsed")]
DONE = [began, lambda run: ended(run, "done")]

TABLE = [
    # noted,                 the scheduler says, it stands,  because,                         is it submitted?
    ([],                     PENDING,   "pending",   "Resources",                        False),
    ([],                     RUNNING,   "running",   "",                                 False),
    ([],                     GONE,      "lost",      "gone without a word",              True),
    ([],                     OVER,      "lost",      "NODE_FAIL",                        True),
    ([],                     BY_HAND,   "stopped",   "CANCELLED by 1000",                True),
    ([cancel],               BY_HAND,   "cancelled", "",                                 True),
    ([cancel],               PENDING,   "pending",   "Resources",                        False),
    ([began],                RUNNING,   "running",   "",                                 False),
    ([began],                PENDING,   "requeued",  "Resources",                        False),
    ([began],                GONE,      "lost",      "gone without a word",              True),
    ([began],                OVER,      "lost",      "NODE_FAIL",                        True),
    ([began],                BY_HAND,   "stopped",   "CANCELLED by 1000",                True),
    ([began, cancel],        GONE,      "cancelled", "",                                 True),
    (AGAIN,                  PENDING,   "requeued",  "Resources",                        False),
    (AGAIN,                  RUNNING,   "running",   "",                                 False),
    (AGAIN,                  GONE,      "lost",      "gone without a word",              True),
    ([*AGAIN, began],        RUNNING,   "running",   "",                                 False),
    ([*AGAIN, began],        GONE,      "lost",      "gone without a word",              True),
    (STOPPED,                PENDING,   "requeued",  "Resources",                        False),
    (STOPPED,                BY_HAND,   "stopped",   "CANCELLED by 1000",                True),
    (STOPPED,                GONE,      "stopped",   "",                                 True),
    ([*STOPPED, cancel],     GONE,      "stopped",   "",                                 True),
    (FAILED,                 GONE,      "failed",    "ValueError: no",                   True),
    (FAILED,                 RUNNING,   "running",   "",                                 False),
    ([*FAILED, cancel],      GONE,      "failed",    "ValueError: no",                   True),
    ([*FAILED, *FAILED],     GONE,      "failed",    "ValueError: no",                   False),
    ([*FAILED, *AGAIN, *FAILED], GONE,  "failed",    "ValueError: no",                   False),
    (PRUNED,                 GONE,      "pruned",    "",                                 False),
    (ALARMED,                GONE,      "alarmed",   "rank: it has collapsed",           False),
    (DONE,                   GONE,      "lost",      "it was done, but what it made is gone", True),
]  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_every_case(run, case):
    noted, live, standing, reason, due = case
    submit(run)
    for event in noted:
        event(run)
    found = state(run, live)
    assert (found.standing.value, found.reason) == (standing, reason)
    assert to_submit(found, tries=2) is due
    runs.finish(run, 16)
    assert state(run, live).standing is Standing.done


class Ends(Scheduler):
    """Something happens in a run's folder while the scheduler answers."""

    def __init__(self, lives, happens):
        super().__init__(lives)
        self.happens = happens

    def states(self, jobs):
        self.happens()
        return super().states(jobs)


@pytest.mark.parametrize("live", [GONE, Live("ended", "COMPLETED")])
def test_a_job_that_ends_while_the_scheduler_is_asked_is_not_lost(run, live):
    submit(run)
    began(run)

    def ends():
        ended(run, "done")
        runs.finish(run, 16)

    (found,) = standings([Wanted(run)], {"slurm": Ends({"7_0": live}, ends)})
    assert (found.standing, to_submit(found, 2)) == (Standing.done, False)


def test_a_probe_that_ends_while_the_scheduler_is_asked_is_not_lost(run):
    submit(run, "8", kind="probe@4")

    def ends():
        note(run, "ended", job="8", kind="probe@4", outcome="done", step=4, error="", again=False)

    (found,) = standings([Wanted(run, "probe@4")], {"slurm": Ends({}, ends)})
    assert found.standing is Standing.done


def test_of_a_job_submitted_while_the_scheduler_is_asked_nothing_is_told(run):
    submit(run)
    for event in FAILED:
        event(run)
    (found,) = standings([Wanted(run)], {"slurm": Ends({}, lambda: submit(run, "9", batch="debs-2"))})
    assert (found.standing.value, found.job, found.reason) == ("failed", "7_0", "ValueError: no")


class Arrays(Slurm):
    """SLURM that takes two jobs an array; `between` happens once the first array is in the queue."""

    def __init__(self, monkeypatch, between):
        super().__init__()
        self.between, self.queue = between, {}  # id -> name, state
        monkeypatch.setattr(slurm, "ask", self.ask)

    def ask(self, *words, fine=""):
        if words[0] == "scancel":
            self.queue |= {job: (self.queue[job][0], "CANCELLED") for job in words[2:]}
        if words[0] == "squeue" and "--me" in words:
            return "".join(f"{job}|{self.logs_in}/x.sh|{name}|\n" for job, (name, _) in self.queue.items())
        if words[0] == "squeue":
            return "".join(f"{job}|{how}|0|0||None|\n" for job, (_, how) in self.queue.items())
        return "MaxArraySize = 2\n" if words[0] == "scontrol" else ""

    def array(self, orders, asked, logs):
        self.logs_in = logs
        first = len(self.queue)
        ids = [f"{first + 1}_{k}" for k in range(len(orders))]
        for job in ids:
            self.queue[job] = (asked["job_name"], "PENDING")
            (logs / f"{job}_submitted.pkl").touch()
        if not first:
            self.between()
        return ids

    def states_of(self):
        return {job: state for job, (_, state) in self.queue.items()}


@pytest.fixture
def four(tmp_path):
    """Orders that train four runs, and what asks about these."""
    sweep, values = tmp_path / "sweeps" / "debs", {"cluster": {"scheduler": "slurm"}}
    (sweep / "logs").mkdir(parents=True)
    paths = [tmp_path / f"run-{letter}" for letter in "abcd"]
    for path in paths:
        path.mkdir()
    return [Order(str(path), "debs", str(sweep), "code", str(tmp_path), values=values) for path in paths]


def asked(orders, backend):
    found = standings([Wanted(Path(order.run)) for order in orders], {"slurm": backend}, lenient=True)
    return [state.standing.value for state in found]


def test_a_look_cancels_nothing_of_what_somebody_is_submitting(four, monkeypatch):
    seen = []
    backend = Arrays(monkeypatch, lambda: seen.extend(asked(four, Slurm())))
    assert sweep_submit(four, {"slurm": backend}) == ["1_0", "1_1", "3_0", "3_1"]
    assert seen == ["missing"] * 4
    assert asked(four, backend) == ["pending"] * 4


def test_half_a_submission_is_taken_back_before_another_but_not_what_has_begun(four, monkeypatch):
    def killed():
        began(Path(four[0].run), "1_0")
        raise KeyboardInterrupt

    backend = Arrays(monkeypatch, killed)
    with pytest.raises(KeyboardInterrupt):
        sweep_submit(four, {"slurm": backend})
    backend.queue["1_0"] = (backend.queue["1_0"][0], "RUNNING")
    assert asked(four, backend) == ["running", "missing", "missing", "missing"]
    assert backend.states_of() == {"1_0": "RUNNING", "1_1": "PENDING"}
    assert sweep_submit(four[1:], {"slurm": backend}) == ["3_0", "3_1", "5_0"]
    assert backend.states_of() == {"1_0": "RUNNING", "1_1": "CANCELLED"} | dict.fromkeys(
        ("3_0", "3_1", "5_0"), "PENDING"
    )
    assert asked(four, backend) == ["running"] + ["pending"] * 3


def test_a_whole_submission_that_nobody_noted_is_not_taken_back(four, monkeypatch):
    backend = Arrays(monkeypatch, lambda: None)
    sweep_submit(four, {"slurm": backend})
    for order in four:
        file = Path(order.run) / "jobs.jsonl"  # killed before it could note the ids
        file.write_text("".join(line for line in file.open() if '"submitted"' not in line))
    backend.queue["1_0"] = (backend.queue["1_0"][0], "NODE_FAIL")
    assert asked(four, backend) == ["lost", "pending", "pending", "pending"]
    sweep_submit(four[:1], {"slurm": backend})
    assert "CANCELLED" not in backend.states_of().values()


@pytest.mark.parametrize("standing", Standing)
def test_what_is_submitted(standing):
    state = State(Wanted(Path("run")), standing)
    always = {"missing", "lost", "stopped", "cancelled"}
    assert to_submit(state, 2) is (standing.value in always or standing is Standing.failed)
    assert to_submit(replace(state, errors=2), 2) is (standing.value in always)


def test_retry_and_another_error_count_anew(run):
    submit(run)
    for event in FAILED * 2:
        event(run)
    assert not to_submit(state(run), 2)
    assert to_submit(state(run), 3)
    note(run, "retried", job="7_0", kind="train")
    assert (state(run).errors, to_submit(state(run), 2)) == (0, True)


def test_a_run_without_a_job_is_missing_running_by_hand_or_done(run):
    assert state(run.parent / "never").standing is Standing.missing
    assert state(run).standing is Standing.missing
    held = f"from research import runs; from pathlib import Path; path = Path({str(run)!r})\n"
    held += "with runs.only_one(path): print('held', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        found = state(run)
        assert (found.standing, found.reason) == (Standing.running, f"as process {other.pid}, without a job")
        submit(run)
        assert state(run, OVER).standing is Standing.running
    finally:
        other.communicate(b"\n", timeout=60)
    assert state(run, OVER).standing is Standing.lost
    with runs.only_one(run):  # asking never held it
        pass
    runs.finish(run, 16)
    assert state(run).standing is Standing.done


def test_a_scheduler_is_asked_once_and_not_about_what_is_done(tmp_path):
    paths = [tmp_path / name for name in "abcd"]
    for number, path in enumerate(paths):
        path.mkdir()
        submit(path, f"7_{number}", number=number)
    runs.finish(paths[0], 16)
    scheduler = Scheduler({"7_1": RUNNING, "7_2": PENDING})
    found = standings([Wanted(path) for path in paths], {"slurm": scheduler})
    assert [state.standing.value for state in found] == ["done", "running", "pending", "lost"]
    assert scheduler.asked == [["7_1", "7_2", "7_3"]]
    assert (found[1].job, found[1].where, found[1].starts, found[1].requeues) == ("7_1", "node1", 2, 0)


def test_a_silent_scheduler_stops_everything_or_leaves_its_own_unknown(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.mkdir()
    submit(paths[0])
    submit(paths[1])
    runs.finish(paths[1], 16)
    wanted, backends = [Wanted(path) for path in paths], {"slurm": Scheduler({}, answers=False)}
    with pytest.raises(HarkError, match="does not answer"):
        standings(wanted, backends)
    found = standings(wanted, backends, lenient=True)
    assert [state.standing.value for state in found] == ["unknown", "done", "missing"]
    assert found[0].reason == "slurm does not answer"
    assert not to_submit(found[0], 2)


def test_ids_that_nobody_noted_are_found_by_the_name_of_the_submission(tmp_path):
    paths = [tmp_path / f"run-{number}" for number in range(12)]
    for number, path in enumerate(paths):
        path.mkdir()
        queue(path, number=number)
    made = [f"7_{number}" for number in range(12)]
    scheduler = Scheduler({"7_11": RUNNING}, {"debs-1": made})
    found = standings([Wanted(paths[11]), Wanted(paths[2])], {"slurm": scheduler})
    assert [(state.standing.value, state.job) for state in found] == [("running", "7_11"), ("lost", "7_2")]
    found = standings([Wanted(paths[11])], {"slurm": Scheduler({})})
    assert [(state.standing.value, state.job) for state in found] == [("missing", "")]
    began(paths[11], "9_11")
    found = standings([Wanted(paths[11])], {"slurm": Scheduler({"9_11": RUNNING})})
    assert [(state.standing.value, state.job) for state in found] == [("running", "9_11")]


def probes(run, step, *names):
    lines = [json.dumps({"probe": name, "step": step}) for name in names]
    (run / "probes.jsonl").write_text("\n".join(lines) + "\n")


def test_probes_are_done_when_all_of_them_are_in_for_the_last_step(run):
    wanted, scheduler = Wanted(run, "probe", ("phones", "speaker")), {"slurm": Scheduler({"8": RUNNING})}

    def standing(asked=wanted):
        return standings([asked], scheduler)[0].standing.value

    submit(run)
    began(run)
    assert standing() == "missing"  # the job that trains is none of theirs
    submit(run, "8", kind="probe")
    assert standing() == "running"
    scheduler["slurm"].lives.clear()
    assert standing() == "lost"
    probes(run, 16, "phones", "speaker")
    assert standing() == "lost"  # training goes on
    runs.finish(run, 16)
    assert standing() == "done"
    probes(run, 16, "phones")
    assert standing() == "lost"
    probes(run, 8, "phones", "speaker")
    assert standing() == "lost"
    assert standing(replace(wanted, probes=())) == "lost"
    note(run, "ended", job="8", kind="probe", outcome="done", step=16, error="", again=False)
    assert standing() == "lost"
    assert standing(replace(wanted, probes=())) == "done"
