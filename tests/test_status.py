"""`hark status` says where every cell stands, cheaply, on any terminal, and when nobody answers."""

import json
import time
from dataclasses import replace

import pytest
from rich.console import Console

from research.cli import main
from research.config import Log
from research.files import append
from research.launch.sweep import report, status
from research.launch.sweep.backend import Live
from research.launch.sweep.progress import Progress, Score, progress
from research.launch.sweep.rows import exit_code, remaining, rows
from research.launch.sweep.table import duration, grid
from research.launch.sweep.tail import Reader, last_lines
from research.training.follower import Follower
from tests.runs import losses, train
from tests.standings import Scheduler, began, configured, ended, logged, submitted, sweep_of

RUNS, WAITS = Live("running", "", "n1", 1), Live("pending", "Resources")


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A sweep of five: done, running, waiting, failed with a traceback, never submitted. Time stands still."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    names = [f"nest-{letter * 10}" for letter in "abcde"]
    folder = sweep_of(tmp_path, *names)
    for job, name in enumerate(names[:4], 1):
        configured(tmp_path / name)
        submitted(tmp_path / name, str(job))
    began(tmp_path / names[1], "2", ago=60)
    logged(tmp_path / names[1], [(30, "train", 4.0, 40), (50, "train", 3.5, 20), (50, "valid", 3.25, 19)])
    (tmp_path / names[0] / "done.json").write_text('{"steps": 100, "time": 1.0}')
    began(tmp_path / names[3], "4")
    ended(tmp_path / names[3], "4", "failed", "ZeroDivisionError: division by zero")
    text = "Traceback (most recent call last):\n  loss = total / 0\nZeroDivisionError: division by zero\nsrun: error\n"
    (folder / "logs" / "4_0.err").write_text(text)
    return tmp_path


@pytest.fixture
def slurm(monkeypatch):
    scheduler = Scheduler({"2": RUNS, "3": WAITS})
    monkeypatch.setattr(status, "backends", lambda _: {"slurm": scheduler})
    return scheduler


@pytest.fixture(scope="module")
def trained(speech, tmp_path_factory):
    """A run of twelve steps that was trained by hand."""
    return train(speech, tmp_path_factory.mktemp("runs"), "train.steps=12")


def shown(width, found):
    console = Console(width=width, highlight=False)
    with console.capture() as said:
        console.print(grid(found, time.time(), width))
    return said.get()


def test_progress_of_a_real_run(trained):
    found = progress(trained)
    assert (found.step, found.steps) == (12, 12)
    assert found.loss == losses(trained)[12]
    assert found.valid_loss == losses(trained, "valid")[12]
    assert found.speed > 0
    assert found.left(time.time()) == 0


def test_only_the_ends_of_large_files_are_read(tmp_path, monkeypatch):
    """The bytes of a file of 100 MB that are read, and where the last validation is found."""
    line = (
        json.dumps({"schema": 1, "step": 1, "split": "train", "time": 1.0, "loss": 1.0, "more": "x" * 400})
        + "\n"
    )
    valid = line.replace('"train"', '"valid"').replace('"loss": 1.0', '"loss": 0.5')
    count = 100_000_000 // len(line)
    (tmp_path / "metrics.jsonl").write_text(line * count + valid + line * 1000 + line[:50])
    start = time.process_time()
    found = progress(tmp_path)
    assert (found.loss, found.valid_loss) == (1.0, 0.5)
    print(f"{(time.process_time() - start) * 1000:.1f} ms")
    read = []
    monkeypatch.setattr("research.launch.sweep.progress.tail", lambda _, size: read.append(size) or [])
    progress(tmp_path)
    assert sum(read) < 5_000_000


def test_a_line_that_was_cut_off_is_passed_over(tmp_path):
    """As a full disk leaves it: what came later stands behind it, on a line of its own."""
    logged(tmp_path, [(1, "train", 3.0, 9), (2, "train", 2.0, 8)])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"schema": 1, "step": 3, "split": "tr')
    append(tmp_path / "metrics.jsonl", json.dumps({"step": 4, "split": "train", "time": 1.0, "loss": 1.0}))
    assert progress(tmp_path).loss == 1.0
    assert [record["step"] for record in Follower(tmp_path, Log(), print).read(9)] == [1, 2, 4]


def test_the_pace_is_that_of_this_start_alone(tmp_path):
    """A run that stood still for an hour is not slow."""
    configured(tmp_path / "r", steps=100)
    logged(tmp_path / "r", [(10, "train", 3.0, 4000), (20, "train", 3.0, 3990)])
    began(tmp_path / "r", "1")
    assert progress(tmp_path / "r").pace is None
    later = [(20, "train", 3.0, 3990), (30, "train", 2.0, -10), (40, "train", 2.0, -20)]
    logged(tmp_path / "r", later)
    found = progress(tmp_path / "r")
    assert found.pace == pytest.approx(1.0, rel=0.01)
    assert found.left(found.seen) == pytest.approx(60, rel=0.01)


def test_scores_are_those_of_the_newest_step(tmp_path):
    def line(step, mean, **more):
        head = {
            "kind": "score",
            "representation": "pretrained",
            "chosen": True,
            "headline": True,
            "probe": "phones",
        }
        return json.dumps(
            head | {"metric": "accuracy", "mean": mean, "low": 0.1, "high": 0.9, "step": step} | more
        )

    others = [
        line(9, 0.9, chosen=False),
        line(9, 0.9, headline=False),
        line(9, 0.9, representation="random_init"),
    ]
    (tmp_path / "probes.jsonl").write_text("\n".join([line(4, 0.4), line(8, 0.5), *others]) + "\n")
    assert progress(tmp_path).scores == (Score("phones", "accuracy", 0.5, 0.1, 0.9, 8),)


def test_json_says_all_and_the_exit_code_is_for_scripts(root, slurm, capsys):
    assert main(["status", "codes", "--json", "--folder", str(root)]) == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["schema"], said["exit_code"]) == (1, 3)
    assert said["totals"] == {"done": 1, "running": 1, "pending": 1, "missing": 1, "failed": 1}
    (sweep,) = said["sweeps"]
    cells = {cell["state"]: cell for cell in sweep["cells"]}
    assert cells["running"]["eta_s"] == pytest.approx(31, abs=1)
    assert (cells["running"]["step"], cells["running"]["valid_loss"]) == (50, 3.25)
    assert (cells["running"]["node"], cells["pending"]["reason"]) == ("n1", "Resources")
    assert cells["failed"]["reason"] == "ZeroDivisionError: division by zero"
    assert cells["done"]["step"] == 100
    assert said["eta_s"] == pytest.approx(131, abs=1)  # the one that waits takes 100 s after that


def test_the_table_tells_failures_with_the_end_of_their_log(root, slurm, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    main(["status", "codes", "--folder", str(root)])
    said = capsys.readouterr().out
    assert "failed dddddd quantizer.codes=3" in said
    assert "| ZeroDivisionError: division by zero" in said
    assert "srun: error" not in said  # what came after the reason
    assert "5 cells: 1 done, 1 running, 1 pending, 1 missing, 1 failed; all in about" in said


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_nothing_important_is_cut_off(root, width):
    found = rows(
        status.named(["codes"], root)[0].runs, {"slurm": Scheduler({"2": RUNS, "3": WAITS})}, lenient=True
    )
    said = shown(width, found)
    assert max(len(line.rstrip()) for line in said.splitlines()) <= width
    for word in ("done", "running", "pending", "failed", "missing", "50/100", "codes"):
        assert word in said
    assert "…" not in said
    assert ("ETA" in said) == (width >= 60)
    assert ("ZeroDivisionError" in said) == (width >= 120)


def test_without_a_name_every_sweep_has_a_line(root, slurm, capsys):
    sweep_of(root, "nest-aaaaaaaaaa", name="other")
    assert main(["status", "--folder", str(root)]) == 3
    said = capsys.readouterr().out
    assert "codes" in said
    assert "other" in said
    assert "5 cells:" in said  # the one that both have counts once


def test_a_scheduler_that_does_not_answer_leaves_what_folders_say(root, slurm, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    slurm.answers = False
    assert main(["status", "codes", "--folder", str(root)]) == 3
    said = capsys.readouterr().out
    assert "slurm does not answer: no squeue" in said
    assert "50/100" in said
    assert "began 60 s ago" in said
    assert "1 done, 2 unknown, 1 missing, 1 failed" in said  # that one failed stands in its folder


def test_exit_codes(root):
    def code(*names, lives=None):
        runs = {root / f"nest-{name * 10}": {} for name in names}
        return exit_code(rows(runs, {"slurm": Scheduler(lives or {})}, lenient=True))

    assert code("a") == 0
    assert code("a", "d") == 1
    assert code("a", "e") == 1  # never submitted
    assert code("a", "b") == 1  # lost: the scheduler knows nothing of it
    assert code("b", "d", lives={"2": RUNS}) == 3


def test_a_probe_that_waits_or_failed_counts(root):
    run = root / "nest-aaaaaaaaaa"
    submitted(run, "9", kind="probe")
    waits = rows({run: {}}, {"slurm": Scheduler({"9": WAITS})}, lenient=True)
    assert exit_code(waits) == 3
    began(run, "9", kind="probe")
    ended(run, "9", "failed", "no phones", kind="probe")
    failed = rows({run: {}}, {"slurm": Scheduler()}, lenient=True)
    assert exit_code(failed) == 1
    assert "probe failed aaaaaa" in str(report.wrong(failed, {"slurm": Scheduler()})[0])


def test_what_waits_is_counted_behind_what_runs(root):
    found = rows(
        status.named(["codes"], root)[0].runs, {"slurm": Scheduler({"2": RUNS, "3": WAITS})}, lenient=True
    )
    _, running, waiting, *_ = found
    now = running.progress.seen
    one = remaining([running, waiting], now)
    assert remaining([running, running, waiting, waiting], now) == pytest.approx(one)
    assert remaining([running, waiting, waiting], now) == pytest.approx(one + 100, rel=0.01)
    assert remaining([replace(running, progress=Progress())], now) is None


def test_equal_failures_are_told_once(root):
    """The folder of a run, with which such errors begin, makes no difference."""
    run = root / "nest-bbbbbbbbbb"
    ended(run, "2", "failed", f"{run}: ZeroDivisionError: division by zero")
    slurm = {"slurm": Scheduler()}
    said = [
        str(line)
        for line in report.wrong(rows(status.named(["codes"], root)[0].runs, slurm, lenient=True), slurm)
    ]
    assert [line for line in said if line.startswith("failed")] == [
        "failed bbbbbb quantizer.codes=1, and 1 more: dddddd"
    ]


def test_follow_ends_when_nothing_goes_on(root, slurm, capsys, monkeypatch):
    monkeypatch.setattr(status, "EVERY", 0.01)
    looks = []

    def states(jobs):
        looks.append(jobs)
        return {"2": RUNS, "3": WAITS} if len(looks) < 4 else {}

    slurm.states = states
    assert status.follow("codes", root) == 1
    said = capsys.readouterr().out
    assert said.count("5 cells: 1 done, 1 running, 1 pending") == 1  # a line only when something changed
    assert "2 lost" in said
    assert len(looks) == 4


def test_ctrl_c_leaves_the_jobs_alone(root, slurm, capsys, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)
    assert main(["status", "codes", "--follow", "--folder", str(root)]) == 130
    assert "the jobs go on" in capsys.readouterr().out
    assert slurm.cancelled == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(40, "40 s"), (720, "12 min"), (7500, "2 h 05 min"), (273_600, "3 d 4 h")]
)
def test_durations(seconds, said):
    assert duration(seconds) == said


def test_ends_of_logs(tmp_path):
    file = tmp_path / "log"
    file.write_bytes(b"first\nsecond\n\n10%\r50%\r90%\nkilled \xff")
    assert last_lines(file, 3) == ["second", "90%", "killed \ufffd"]
    assert last_lines(tmp_path / "none", 3) == []


def test_a_log_that_starts_anew_is_read_from_its_beginning(tmp_path):
    file = tmp_path / "log"
    reader = Reader(file)
    assert reader.lines() == []
    file.write_text("one\ntwo\nhal")
    assert reader.lines() == ["one", "two"]
    file.write_text("one\ntwo\nhalf\n")
    assert reader.lines() == ["half"]
    file.write_text("new\n")
    assert reader.lines() == ["new"]
