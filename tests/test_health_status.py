"""Alarms reach whoever looks after a sweep, and a job that one has stopped is not started again by itself."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from research.launch.sweep.backend import Live
from research.launch.sweep.report import notes
from research.launch.sweep.rows import facts, rows
from research.launch.sweep.score import Fate, fate
from research.launch.sweep.table import grid
from research.runs import finished
from research.training.health import record
from research.training.signals import ALARMED
from tests.jobs import ends, order_of, start
from tests.runs import finish
from tests.standings import Scheduler, configured, submitted, sweep_of

SAYS = "rankme_2 1.1 below 1.5: collapsed"


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "nest-aaaaaaaaaa"
    sweep_of(tmp_path, path.name)
    configured(path)
    submitted(path, "1")
    return path


def row_of(run):
    return rows({run: {}}, {"slurm": Scheduler({"1": Live("running", "", "n1", 1)})}, lenient=True)[0]


def test_status_tells_alarms_that_are_on(run):
    record.note(run, "on", 100, "rank", measure="rankme_2", value=1.1, limit=1.5, says=SAYS)
    record.note(run, "on", 100, "targets", measure="code_ppl", value=1.0, limit=1.5, says="few")
    record.note(run, "off", 150, "targets", measure=None, value=None, limit=None, says="")
    row = row_of(run)
    assert facts(row, 0.0)["alarms"] == {"rank": SAYS}
    console = Console(width=200)
    with console.capture() as said:
        console.print(*notes([row]), grid([row], 0.0, 200))
    assert f"alarm rank {row.id}" in said.get()
    assert SAYS in said.get()


def test_what_was_rolled_back_is_on_no_more_and_kept_over_restarts(run):
    for step in (50, 100):
        record.note(run, "on", step, "rank", measure="rankme_2", value=1.1, limit=1.5, says=SAYS)
    record.note(run, "rollback", 120, "rank", to=40, lr_factor=0.5, says="back")
    assert record.on(run) == {}
    record.keep_until(run, 60)
    assert [event["event"] for event in record.events(run)] == ["on", "rollback"]
    assert record.rollbacks(run)[0]["to"] == 40


def test_a_job_that_an_alarm_stops_says_why_and_stays_stopped(speech, tmp_path):
    """What it stands as is in test_standing.py; its trial of a search has failed."""
    always = ("health=stop", "health.every=2", "health.patience=1", "health.limits.mask_ratio=2")
    order, file = order_of(speech, tmp_path / "runs", "train.steps=6", *always)
    run = Path(order.run)
    code, said = finish(start(file))
    assert code == ALARMED, said
    (end,) = ends(order)
    assert (end["outcome"], end["again"], end["step"]) == ("alarmed", False, 2)
    assert end["error"].startswith("no_mask: masked 0.")
    assert "health: no_mask" in said
    assert not finished(run)
    assert fate(run, "valid/loss", 2)[0] is Fate.failed
    assert json.loads((run / record.FILE).read_text().splitlines()[0])["schema"] == record.SCHEMA
