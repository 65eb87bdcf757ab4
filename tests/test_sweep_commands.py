"""`hark cancel`, `retry` and `logs`, and how runs are named to them."""

import json
from types import SimpleNamespace

import pytest

from research import runs
from research.cli import main
from research.config import Cluster
from research.errors import HarkError
from research.launch.sweep import cancel, logs, retry, status, sweep
from research.launch.sweep.backend import Live
from research.launch.sweep.ledger import events
from research.launch.sweep.named import named, runs_of
from research.launch.sweep.order import read_order
from research.launch.sweep.standing import Standing, State, Wanted
from research.launch.sweep.sweep import Due
from tests.standings import Scheduler, began, configured, ended, submitted, sweep_of

RUNS, WAITS = Live("running", "", "n1", 1), Live("pending", "Resources")
DONE, GOES, WAITING, FAILED, LOST = (f"nest-{letter * 10}" for letter in "abcde")


@pytest.fixture
def root(tmp_path):
    """A sweep of five: done, running, waiting, failed, lost."""
    sweep_of(tmp_path, DONE, GOES, WAITING, FAILED, LOST)
    for job, name in enumerate((DONE, GOES, WAITING, FAILED, LOST), 1):
        configured(tmp_path / name)
        submitted(tmp_path / name, str(job))
        if name != WAITING:
            began(tmp_path / name, str(job))
    (tmp_path / DONE / "done.json").write_text('{"steps": 100, "time": 1.0}')
    ended(tmp_path / FAILED, "4", "failed", "ValueError: no")
    return tmp_path


@pytest.fixture
def slurm(monkeypatch):
    scheduler = Scheduler({"2": RUNS, "3": WAITS})
    for module in (cancel, logs, retry):
        monkeypatch.setattr(module, "backends", lambda _: {"slurm": scheduler})
    return scheduler


def hark(root, *words):
    return main([*words, "--folder", str(root)])


def names(root, run, kind=""):
    return [event["event"] for event in events(root / run, kind)]


@pytest.mark.parametrize("word", ["codes", "cod", "{}/sweeps/codes", "{}/sweeps/cod"])
def test_a_sweep_is_found_by_its_name_its_path_or_their_beginning(root, word):
    (found,) = named([word.format(root)], root)
    assert found.sweep == root / "sweeps" / "codes"
    assert [run.name for run in found.runs] == [DONE, GOES, WAITING, FAILED, LOST]


@pytest.mark.parametrize(
    "word", [GOES, "nest-b", "b", "bbbbbbbbbb", "{}/nest-bbbbbbbbbb", "{}/nest-bb", "{}/bbb"]
)
def test_a_run_is_found_by_its_name_its_signature_or_their_beginning(root, word):
    assert runs_of([word.format(root)], root) == {root / GOES: {"quantizer.codes": "1"}}


def test_a_path_says_in_which_folder_everything_is(root, slurm, monkeypatch, tmp_path_factory):
    asked = []
    monkeypatch.setattr(cancel, "backends", lambda folder: asked.append(folder) or {"slurm": slurm})
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    main(["cancel", str(root / GOES)])
    assert asked == [root]
    assert slurm.cancelled == ["2"]


def test_a_name_of_a_sweep_counts_more_than_the_beginning_of_others(root):
    sweep_of(root, DONE, name="nest")
    assert named(["nest"], root)[0].title == "nest"


def test_what_could_be_several_lists_them(root):
    with pytest.raises(
        HarkError, match=r"nest: could be any of nest-aaaaaaaaaa, .*; type more of it"
    ) as told:
        named(["nest"], root)
    assert "\n" not in str(told.value)


def test_a_wrong_name_is_told_with_the_nearest(root, capsys):
    assert hark(root, "status", "codez") == 2
    assert "did you mean 'codes'?" in capsys.readouterr().err


def test_cancel_writes_it_down_before_it_ends_anything(root, slurm, capsys):
    seen = []

    def end(jobs):
        seen.extend((names(root, GOES)[-1], names(root, WAITING)[-1], sorted(jobs)))

    slurm.cancel = end
    assert hark(root, "cancel", "codes") == 0
    assert seen == ["cancelled", "cancelled", ["2", "3"]]
    assert all("cancelled" not in names(root, run) for run in (DONE, FAILED, LOST))
    said = capsys.readouterr().out
    assert "bbbbbb quantizer.codes=1: running, cancelled (job 2)" in said
    assert "aaaaaa quantizer.codes=0: done, left alone" in said


def test_cancel_takes_probes_that_wait_too(root, slurm):
    submitted(root / GOES, "9", kind="probe")
    slurm.lives["9"] = WAITS
    hark(root, "cancel", "bbb")
    assert slurm.cancelled == ["2", "9"]
    assert names(root, GOES, "probe")[-1] == "cancelled"


def test_dry_runs_change_nothing(root, slurm, capsys):
    before = [names(root, run) for run in (GOES, FAILED, LOST)]
    hark(root, "cancel", "codes", "--dry-run")
    hark(root, "retry", "codes", "--dry-run")
    assert "would be cancelled (job 2)" in (said := capsys.readouterr().out)
    assert "failed (ValueError: no), would be submitted again" in said
    assert [names(root, run) for run in (GOES, FAILED, LOST)] == before
    assert slurm.cancelled == slurm.submitted == []


@pytest.mark.parametrize("words", [("cancel",), ("retry",)])
def test_nothing_is_done_when_the_scheduler_does_not_answer(root, slurm, words, capsys):
    slurm.answers = False
    before = names(root, GOES)
    assert hark(root, *words, "codes") == 2
    assert "slurm does not answer" in capsys.readouterr().err
    assert names(root, GOES) == before


@pytest.mark.parametrize(
    ("flags", "runs"), [((), [FAILED, LOST]), (("--lost",), [LOST]), (("--failed", "--lost"), [FAILED, LOST])]
)
def test_retry_submits_what_failed_or_was_lost(root, slurm, flags, runs):
    assert hark(root, "retry", "codes", *flags) == 0
    assert [order.run for order in slurm.submitted] == [str(root / run) for run in runs]
    for run in runs:
        assert names(root, run)[-3:] == ["retried", "queued", "submitted"]
    assert names(root, GOES)[-1] == "began"


def test_retry_takes_todays_code_and_the_same_config(root, slurm):
    hark(root, "retry", "ddd")
    (order,) = slurm.submitted
    old = read_order(root / "sweeps" / "codes" / "orders" / "codes-4-train-0.json")
    assert (order.values, order.overrides, order.cwd) == (old.values, old.overrides, old.cwd)
    assert (root / "sweeps" / "code") == type(root)(order.code).parent
    assert json.loads((type(root)(order.code) / "code.json").read_text())["commit"]


def test_probes_that_wait_for_what_failed_wait_for_the_new_job(root, slurm):
    submitted(root / FAILED, "9", kind="probe")
    slurm.lives["9"] = Live("pending", "DependencyNeverSatisfied")
    hark(root, "retry", "ddd")
    assert slurm.cancelled == ["9"]
    assert [(order.kind, order.after) for order in slurm.submitted] == [("train", ""), ("probe", "100")]


def test_retry_leaves_probes_of_what_is_trained_by_hand(root, slurm, monkeypatch):
    submitted(root / FAILED, "9", kind="probe")  # lost
    monkeypatch.setattr(runs, "holder", lambda _: 7)
    hark(root, "retry", "ddd")
    assert slurm.submitted == []


def test_probes_of_what_is_trained_by_hand_are_not_due(root):
    cell = SimpleNamespace(config=SimpleNamespace(cluster=Cluster()))
    probe = State(Wanted(root / FAILED, "probe"), Standing.missing)
    for job in ("", "4"):  # of a job before it, too
        train = State(Wanted(root / FAILED), Standing.running, "as process 7, without a job", job=job)
        assert not Due(cell, train, probe).probes
    assert Due(cell, State(Wanted(root / FAILED), Standing.running, job="4"), probe).probes


def test_cells_that_were_refused_are_told_by_the_exit_code_of_follow_too(tmp_path, monkeypatch):
    scheduler = Scheduler()
    monkeypatch.setattr(sweep, "backends", lambda _: {"slurm": scheduler})
    monkeypatch.setattr(sweep, "preflight", lambda *_, force: set())
    monkeypatch.setattr(sweep, "snapshot", lambda path: path)
    monkeypatch.setattr(status, "follow", lambda name, root: 0)
    small = ["encoder=fastconformer_tiny", "data.train=[x.jsonl]", f"run.folder={tmp_path}", "cluster=slurm"]
    assert main(["sweep", "--follow", *small, "quantizer.codes=64,abc"]) == 1
    assert main(["sweep", "--follow", *small, "quantizer.codes=64"]) == 0
    assert len(scheduler.submitted) == 1
    monkeypatch.setattr(status, "follow", lambda name, root: 130)
    assert main(["sweep", "--follow", *small, "quantizer.codes=64,abc"]) == 130


def test_cancelled_runs_are_retried_when_that_is_said(root, slurm, capsys):
    hark(root, "cancel", "codes")
    hark(root, "retry", "bbb")
    assert "nothing is failed or lost" in capsys.readouterr().out
    hark(root, "retry", "bbb", "--cancelled")
    assert [order.run for order in slurm.submitted] == [str(root / GOES)]


def test_logs_are_the_last_lines_of_every_rank(root, slurm, capsys):
    folder = root / "sweeps" / "codes" / "logs"
    for rank in (0, 1):
        (folder / f"2_{rank}.out").write_text(f"{rank} one\n{rank} two\n{rank} three\n")
        (folder / f"2_{rank}.err").write_text("oh\n")
    hark(root, "logs", "bbb", "--lines", "2")
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("==>")]
    assert said == ["0 | 0 two", "0 | 0 three", "1 | 1 two", "1 | 1 three"]
    hark(root, "logs", "bbb", "--err")
    assert "1 | oh" in capsys.readouterr().out


def test_logs_of_a_sweep_say_whose_line_it_is_and_what_has_none(root, slurm, capsys):
    for job in (1, 2):
        (root / "sweeps" / "codes" / "logs" / f"{job}_0.out").write_text(f"line of {job}\n")
    hark(root, "logs", "codes")
    said = capsys.readouterr().out
    assert "aaaaaa | line of 1" in said
    assert "bbbbbb | line of 2" in said
    assert "cccccc quantizer.codes=2: pending, no log is there" in said


def test_logs_follow_a_run_into_its_next_job(root, slurm, capsys, monkeypatch):
    folder, run = root / "sweeps" / "codes" / "logs", root / GOES
    (folder / "2_0.out").write_text("old\nstep 1\n")

    def goes_on():
        with (folder / "2_0.out").open("a") as file:
            file.write("step 2\n")
        yield
        (folder / "7_0.out").write_text("step 3\n")
        slurm.lives["7"] = RUNS
        submitted(run, "7")
        yield
        with (folder / "7_0.out").open("a") as file:
            file.write("step 4\n")
        (run / "done.json").write_text('{"steps": 100, "time": 1.0}')
        yield

    going = goes_on()
    monkeypatch.setattr(logs, "time", SimpleNamespace(sleep=lambda _: next(going)))  # between two looks
    assert hark(root, "logs", "bbb", "--follow", "--lines", "1") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("==>")]
    assert [line.rpartition("| ")[2] for line in said] == ["step 1", "step 2", "step 3", "step 4"]
