"""Events of jobs: every one is kept, whoever is killed while writing one."""

import json
import multiprocessing
import os
import signal
import time

import pytest

from research import runs
from research.files import append
from research.launch.sweep import ledger
from research.launch.sweep.ledger import events, note, requeues, same_errors, starts, submission
from research.training.tracking import keep_until


def ended(outcome, error="", step=0, **facts):
    return {"event": "ended", "kind": "train", "outcome": outcome, "error": error, "step": step, **facts}


def queued(batch="debs-1", number=0):
    facts = {"scheduler": "slurm", "sweep": "debs", "batch": batch, "code": "code/abc"}
    return {"event": "queued", "kind": "train", "job": "", "order": f"orders/{batch}-{number}.json", **facts}


def submitted(job, batch="debs-1"):
    return {"event": "submitted", "job": job, "batch": batch}


def began(job):
    return {"event": "began", "job": job, "step": 0}


CANCELLED = {"event": "cancelled", "job": "7_0"}


# --- the file


def test_an_event_has_its_time_and_kinds_are_apart(tmp_path):
    before = time.time()
    note(tmp_path, "began", job="7", kind="train", host="here")
    note(tmp_path, "began", job="8", kind="probe")
    first, second = events(tmp_path)
    assert before <= first["time"] <= second["time"]
    assert [event["job"] for event in events(tmp_path, "probe")] == ["8"]
    assert events(tmp_path / "nothing") == []


@pytest.mark.parametrize("torn", [b'{"event": "beg', b'{"event": "began"', b"\0\0\0", b'"\xff', b"7"])
def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path, torn):
    note(tmp_path, "queued", job="", kind="train")
    with (tmp_path / "jobs.jsonl").open("ab") as file:
        file.write(torn)
    assert [event["event"] for event in events(tmp_path)] == ["queued"]
    note(tmp_path, "began", job="7", kind="train")
    note(tmp_path, "ended", job="7", kind="train")
    assert [event["event"] for event in events(tmp_path)] == ["queued", "began", "ended"]


def write_many(path, mine, size):
    for number in range(200):
        append(path, json.dumps({"mine": mine, "number": number, "text": "x" * size}))


def test_events_of_many_processes_do_not_mix_and_those_of_killed_ones_are_whole_or_apart(tmp_path):
    path = tmp_path / "jobs.jsonl"
    fork = multiprocessing.get_context("fork")
    alive = [fork.Process(target=write_many, args=(path, n, 100)) for n in range(3)]
    doomed = [fork.Process(target=write_many, args=(path, n, 300_000)) for n in (3, 4)]
    for process in alive + doomed:
        process.start()
    for process in doomed:
        while not path.exists() or f'"mine": {doomed.index(process) + 3},'.encode() not in path.read_bytes():
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    for process in alive + doomed:
        process.join()
    found = [line for line in runs.objects(path.read_bytes()) if line]
    for n in range(3):
        assert [line["number"] for line in found if line["mine"] == n] == list(range(200))
    for n in (3, 4):
        numbers = [line["number"] for line in found if line["mine"] == n]
        assert numbers == list(range(len(numbers)))


def test_readers_pass_over_a_damaged_line_and_say_so_unless_it_is_the_last(tmp_path, caplog):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert list(runs.read_jsonl(path)) == [{"step": 1}, {"step": 2}]
    assert not caplog.text
    path.write_text('{"step": 1}\n{"st\n{"step": 3}\n{"step": 4}\n')
    keep_until(path, 3)
    assert f"{path}:2: is damaged, and left out" in caplog.text
    assert path.read_text() == '{"step": 1}\n{"step": 3}\n'


# --- what it says


def test_the_last_submission_counts():
    assert submission([]) is None
    assert submission([began("by hand")]) is None
    found = [queued(), submitted("7_0"), began("7_0"), queued("debs-2", 11), submitted("9_11", "debs-2")]
    last = submission(found)
    assert (last.job, last.batch, last.number, last.scheduler) == ("9_11", "debs-2", 11, "slurm")
    assert not last.began
    assert last.last is None


def test_an_id_that_nobody_noted_is_that_of_the_job_that_began():
    assert submission([queued()]).job == ""
    assert submission([queued(), began("7_0")]).job == "7_0"
    old = [queued(), submitted("7_0"), queued("debs-2")]
    assert submission([*old, began("7_0")]).job == ""  # a job from before that SLURM started once more


@pytest.mark.parametrize(
    ("since", "cancelled"),
    [
        ([], False),
        ([CANCELLED], True),
        ([began("7_0"), CANCELLED], True),
        ([began("7_0"), CANCELLED, ended("stopped")], True),
        ([began("7_0"), CANCELLED, ended("failed", "a worker was killed")], True),
        ([began("7_0"), ended("failed", again=True), CANCELLED], True),
        ([began("7_0"), ended("failed"), CANCELLED], False),
        ([began("7_0"), ended("pruned"), CANCELLED], False),
    ],
)
def test_what_had_ended_is_not_cancelled(since, cancelled):
    assert submission([queued(), submitted("7_0"), *since]).cancelled is cancelled


FAILED = ended("failed", "ValueError: no")


@pytest.mark.parametrize(
    ("found", "count"),
    [
        ([], 0),
        ([FAILED], 1),
        ([FAILED, began("8"), FAILED, queued(), FAILED], 3),
        ([FAILED, ended("failed", "OSError: no")], 1),
        ([ended("failed", "OSError: no"), FAILED, FAILED], 2),
        ([FAILED, {"event": "retried"}], 0),
        ([FAILED, {"event": "retried"}, FAILED], 1),
        ([FAILED, FAILED, ended("done")], 0),
        ([FAILED, ended("stopped", step=0), FAILED], 2),
        ([FAILED, ended("failed", "ValueError: no", step=4)], 1),
        ([ended("failed", "ValueError: no", step=4)] * 2, 2),
        ([ended("failed", "at 0x7fa2 of 12 MiB"), ended("failed", "at 0x81bc of 9 MiB")], 2),
    ],
)
def test_equal_errors_in_a_row(found, count):
    assert same_errors(found) == count


def test_starts_and_requeues():
    found = [
        queued(),
        began("7"),
        ended("stopped", again=True),
        began("7"),
        queued(),
        began("9"),
        ledger.Event(),
    ]
    found.pop()
    assert (starts(found), requeues(found)) == (3, 1)
    assert requeues([]) == 0
