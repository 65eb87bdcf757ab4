"""A search goes on when a job of it is over: unless it was cancelled, and for whoever follows it."""

import gc
import json
import os
import signal
import time

import pytest

from research.launch.sweep import job, onward, status
from research.launch.sweep.backend import Live
from research.launch.sweep.ledger import events, note, submission
from research.launch.sweep.order import Order, read_order
from research.launch.sweep.prune import FILE
from tests.standings import Scheduler, began, ended, submitted, sweep_of

RUNS, GONE = Live("running"), Live("ended")
FIRST, NEXT = "run-aaaaaaaaaa", "run-bbbbbbbbbb"


@pytest.fixture
def root(tmp_path):
    """A search of one run, whose job has begun."""
    draw(tmp_path, FIRST)
    (tmp_path / "sweeps" / "codes" / FILE).write_text("{}")
    submitted(tmp_path / FIRST, "1")
    began(tmp_path / FIRST, "1")
    return tmp_path


@pytest.fixture
def slurm(monkeypatch):
    scheduler = Scheduler({"1": RUNS})
    monkeypatch.setattr(status, "backends", lambda _: {"slurm": scheduler})
    return scheduler


def draw(root, *runs):
    """Make these the cells of the search."""
    folder = root / "sweeps" / "codes"
    if not folder.exists():
        sweep_of(root)
    cells = {run: {"differs": {}, "overrides": []} for run in runs}
    known = {"name": "codes", "typed": [{"words": ["codes"]}], "cells": cells}
    (folder / "sweep.json").write_text(json.dumps(known))


def finish(run, number):
    run.mkdir(exist_ok=True)
    (run / "done.json").write_text('{"steps": 8, "time": 0}')
    ended(run, number, "done")


def typed(run, monkeypatch):
    """Whether the job of a run, which is over, types the sweep again."""
    said = []
    monkeypatch.setattr("research.launch.sweep.sweep.sweep", said.append)
    onward.onward(read_order(submission(events(run, "train")).order))
    return [args.words for args in said] == [["codes"]]


@pytest.mark.parametrize(
    ("cancelled", "outcome", "goes_on"),
    [
        (False, "done", True),
        (False, "failed", True),
        (False, "stopped", False),
        (True, "stopped", False),
        (True, "done", False),
    ],
)
def test_a_job_that_was_cancelled_or_stopped_does_not_go_on(root, monkeypatch, cancelled, outcome, goes_on):
    run = root / FIRST
    if cancelled:
        note(run, "cancelled", job="1", kind="train")
    ended(run, "1", outcome)
    assert typed(run, monkeypatch) is goes_on


def test_what_is_submitted_after_it_was_cancelled_goes_on(root, monkeypatch):
    run = root / FIRST
    note(run, "cancelled", job="1", kind="train")
    ended(run, "1", "stopped")
    submitted(run, "2")
    began(run, "2")
    ended(run, "2", "done")
    assert typed(run, monkeypatch)


def test_a_warning_does_not_end_a_job_that_is_done(tmp_path, monkeypatch):
    heard = []
    before = signal.signal(signal.SIGUSR2, lambda *_: heard.append("warning"))
    monkeypatch.setattr(job, "work", lambda *_: 0)
    monkeypatch.setattr(onward, "onward", lambda _: os.kill(os.getpid(), signal.SIGUSR2))
    order = Order(str(tmp_path), "s", str(tmp_path), "", str(tmp_path))
    order.save(tmp_path / "order.json")
    try:
        assert job.perform(tmp_path / "order.json") == 0
    finally:
        signal.signal(signal.SIGUSR2, before)
        gc.enable()
    assert heard == []


def test_follow_sees_what_a_search_draws_later(root, slurm, capsys, monkeypatch):
    finish(root / FIRST, "1")

    def submits():
        draw(root, FIRST, NEXT)
        submitted(root / NEXT, "2")
        slurm.lives = {"1": GONE, "2": RUNS}

    def ends():
        finish(root / NEXT, "2")
        slurm.lives = {"2": GONE}

    acts = iter([lambda: None, submits, ends])
    monkeypatch.setattr(time, "sleep", lambda _: next(acts)())
    assert status.follow("codes", root) == 0
    assert "2 cells: 2 done" in capsys.readouterr().out
    assert next(acts, None) is None


def test_follow_sees_what_a_job_submits_as_it_leaves(root, slurm, capsys, monkeypatch):
    """Between two looks at it: it is done, then it is gone."""
    finish(root / FIRST, "1")

    def states(_):
        draw(root, FIRST, NEXT)
        return {"1": GONE}

    slurm.states = states
    assert status.follow("codes", root) == 1
    assert "2 cells: 1 done, 1 missing" in capsys.readouterr().out


def test_a_search_is_not_followed_for_ever(root, slurm, monkeypatch):
    """Not by its jobs that are gone, nor by one of which nobody tells the end."""
    finish(root / FIRST, "1")
    slurm.lives = {}
    assert status.follow("codes", root) == 0
    slurm.answers = False
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * status.LEAVES)
    assert status.follow("codes", root) == 0
