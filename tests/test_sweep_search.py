"""A search asks Optuna for trials and tells it what came of them; nothing of that depends on when it was killed."""

import json
import math
import sys
from pathlib import Path

import pytest

from research import runs
from research.errors import HarkError
from research.launch.sweep import ledger
from research.launch.sweep.job import perform
from research.launch.sweep.order import Order
from research.launch.sweep.prune import FIRST, Pruner, pruner, tell_jobs
from research.launch.sweep.recipe import Direction, Prune, Recipe, Sampler, Search
from research.launch.sweep.score import fate, series
from research.launch.sweep.search import Trials, folder_of
from research.launch.sweep.space import distribution, points, space
from tests.runs import TINY

LINE = {"kind": "score", "probe": "pnmi", "representation": "pretrained", "headline": True, "chosen": True}
RATE = {"optimizer.lr": "tag(log,interval(1e-4,1e-2))", "quantizer.codes": "64,128"}


def recipe(folder, axes=RATE, metric="valid/loss", **settings):
    shared = ("encoder=fastconformer_tiny", "data.train=[x.jsonl]", f"run.folder={folder}")
    return Recipe("mine", shared, axes, Search(metric, **{"trials": 6, "parallel": 2} | settings))


def opened(made):
    return Trials(folder_of(made), made)


def finish(run, *losses, split="valid"):
    """Make the folder of a run that validated at steps 10, 20, ... and is done."""
    measure(run, *losses, split=split)
    (run / "done.json").write_text(json.dumps({"steps": 10 * len(losses), "time": 0}))


def measure(run, *losses, split="valid"):
    run.mkdir(parents=True, exist_ok=True)
    lines = [{"step": 10 * k, "split": split, "time": 0, "loss": loss} for k, loss in enumerate(losses, 1)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def distance(cell):
    """How bad a cell is: best at a rate of 1e-3."""
    return abs(math.log10(cell.config.optimizer.lr) + 3)


def drawn(trials):
    return [trial.drawn for trial in trials.tried()]


def test_a_search_tries_what_it_may_and_finds_the_best(tmp_path):
    trials = opened(recipe(tmp_path, trials=12, parallel=3))
    while cells := trials.ask():
        assert len(cells) <= 3
        finish(cells[0].folder, 9.0, distance(cells[0]))
    assert trials.over
    tried = list(trials.tried())
    assert len(tried) == 12
    assert {each.state for each in tried} == {"complete"}
    assert trials.best().value == min(each.value for each in tried)
    assert all(1e-4 <= each.drawn["optimizer.lr"] <= 1e-2 for each in tried)


def test_the_same_seed_tries_the_same_however_often_it_is_killed(tmp_path):
    def search(folder, *, again, **settings):
        made = recipe(folder, trials=12, **settings)
        trials = opened(made)
        while cells := trials.ask():
            finish(cells[0].folder, distance(cells[0]))
            trials = opened(made) if again else trials
        return drawn(trials)

    once = search(tmp_path / "a", again=False)
    assert once == search(tmp_path / "b", again=True)
    assert once != search(tmp_path / "c", again=False, seed=1)
    rates = [each["optimizer.lr"] for each in once]
    assert len(set(rates)) == len(rates)


def test_what_was_asked_but_never_submitted_is_found_again(tmp_path):
    made = recipe(tmp_path)
    cells = opened(made).ask()
    assert len(cells) == 2
    assert not any(cell.folder.exists() for cell in cells)
    again = opened(made).ask()
    assert [cell.folder for cell in again] == [cell.folder for cell in cells]
    assert [cell.differs for cell in again] == [cell.differs for cell in cells]


def test_killed_while_a_trial_is_drawn_loses_nothing(tmp_path):
    undisturbed = opened(recipe(tmp_path / "a"))
    undisturbed.ask()
    disturbed = opened(recipe(tmp_path / "b"))
    disturbed.study.ask(disturbed.space)
    journal = disturbed.folder / "search.journal"
    with open(journal, "a") as file:
        file.write('{"op_code": 4, "torn')
    again = opened(recipe(tmp_path / "b"))
    again.ask()
    assert drawn(again) == drawn(undisturbed)
    assert journal.read_bytes().endswith(b"\n")


def test_a_run_that_is_done_already_is_told_at_once(tmp_path):
    made = recipe(tmp_path, trials=3, parallel=1)
    first = opened(recipe(tmp_path / "other", trials=1)).ask()[0]
    finish(tmp_path / first.folder.name, 0.5)
    trials = opened(made)
    assert [cell.folder.name for cell in trials.ask()] != [first.folder.name]
    assert [each.state for each in trials.tried()] == ["complete", "running"]


def test_every_trial_is_run_with_all_seeds_and_worth_their_mean(tmp_path):
    trials = opened(recipe(tmp_path, RATE | {"run.seed": "range(3)"}, parallel=1))
    cells = trials.ask()
    assert [cell.config.run.seed for cell in cells] == [0, 1, 2]
    assert len({cell.config.optimizer.lr for cell in cells}) == 1
    for cell, loss in zip(cells, (1.0, 2.0, 6.0), strict=True):
        assert trials.best() is None
        finish(cell.folder, loss)
        trials.tell()
    assert trials.best().value == 3.0
    assert len(trials.ask()) == 3


def failed(run, error="RuntimeError: broken", *, again=False):
    run.mkdir(parents=True, exist_ok=True)
    ledger.note(run, "ended", job="1", kind="train", outcome="failed", step=0, error=error, again=again)


def test_a_failed_trial_does_not_end_the_search(tmp_path):
    trials = opened(recipe(tmp_path, parallel=1))
    (cell,) = trials.ask()
    failed(cell.folder)  # tries=2: it will be submitted again
    assert [each.folder for each in trials.ask()] == [cell.folder]
    failed(cell.folder)
    (other,) = trials.ask()
    assert other.folder != cell.folder
    assert [each.state for each in trials.tried()] == ["fail", "running"]
    finish(other.folder, math.nan)
    trials.ask()
    assert [each.state for each in trials.tried()] == ["fail", "fail", "running"]


def test_one_failed_seed_ends_its_trial(tmp_path):
    trials = opened(recipe(tmp_path, RATE | {"run.seed": "0,1"}, parallel=1))
    cells = trials.ask()
    for _ in range(2):
        failed(cells[1].folder)
    trials.tell()
    assert [each.state for each in trials.tried()] == ["fail"]


def test_a_job_that_is_queued_again_is_still_open(tmp_path):
    trials = opened(recipe(tmp_path, parallel=1))
    (cell,) = trials.ask()
    failed(cell.folder)
    failed(cell.folder, again=True)
    assert [each.folder for each in trials.ask()] == [cell.folder]
    failed(cell.folder)
    ledger.note(cell.folder, "retried", job="1", kind="train")
    assert [each.folder for each in trials.ask()] == [cell.folder]


def test_illegal_trials_fail_alone_but_not_for_ever(tmp_path):
    some = opened(
        recipe(
            tmp_path, {"encoder.stride": "3,4", "optimizer.lr": "interval(0.1,0.2)"}, trials=20, parallel=20
        )
    )
    cells = some.ask()
    states = {each.drawn["encoder.stride"]: each.state for each in some.tried()}
    assert states == {"3": "fail", "4": "running"}
    assert {cell.config.encoder.stride for cell in cells} == {4}
    with pytest.raises(HarkError, match=r"10 trials in a row are illegal: encoder\.stride=3"):
        opened(
            recipe(tmp_path / "b", {"encoder.stride": "3", "optimizer.lr": "interval(0.1,0.2)"}, trials=30)
        ).ask()


def test_what_cannot_be_run_can_be_given_up(tmp_path):
    trials = opened(recipe(tmp_path))
    one, other = trials.ask()
    trials.fail(one)
    assert [each.state for each in trials.tried()] == ["fail", "running"]
    assert other.folder in [cell.folder for cell in trials.ask()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"axes": RATE | {"quantizer.codes": "64,256"}}, "this search began with axes"),
        (
            {"metric": "valid/acc"},
            "this search began with metric valid/loss, not valid/acc; give it another --name",
        ),
        ({"direction": Direction.maximize}, "this search began with direction minimize"),
    ],
)
def test_a_search_that_is_about_something_else_needs_another_name(tmp_path, change, words):
    opened(recipe(tmp_path))
    with pytest.raises(HarkError, match=words):
        opened(recipe(tmp_path, **change))
    opened(recipe(tmp_path, trials=50, parallel=9, seed=3, sampler=Sampler.random))


def test_other_shared_settings_are_another_search_unless_they_do_not_matter(tmp_path):
    made = recipe(tmp_path)
    opened(made)
    opened(Recipe(made.name, (*made.shared, "cluster=slurm", "run.seed=0"), made.axes, made.search))
    with pytest.raises(HarkError, match="this search began with signature"):
        opened(Recipe(made.name, (*made.shared, "train.steps=7"), made.axes, made.search))


def test_a_metric_that_no_run_has_is_said_so(tmp_path):
    trials = opened(recipe(tmp_path, metric="valid/los"))
    finish(trials.ask()[0].folder, 1.0)
    with pytest.raises(
        HarkError, match="measured no valid/los, which the search is about; there are: valid/loss"
    ):
        trials.tell()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"metric": "loss"}, "metric: loss: write valid/loss, train/loss or probe/NAME"),
        ({"metric": "probe/phone_frame"}, "did you mean 'phone_frames'"),
        ({"metric": "probe/phone_frames", "prune": Prune.median}, "prune: a run has no probe/phone_frames on its way"),
        ({"axes": {"run.seed": "0,1"}}, "there is no axis to search"),
        ({"axes": {"optimizer.lr": "tag(log,interval(0,1))"}}, "nothing can be drawn from this"),
        ({"axes": {"optimizer.lr": "interval(2,1)"}}, "nothing can be drawn from this"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(tmp_path, settings, words):
    with pytest.raises(HarkError, match=words) as error:
        opened(recipe(tmp_path, **settings))
    assert "\n" not in str(error.value)


def test_a_probe_is_waited_for(tmp_path):
    run = tmp_path / "run"
    finish(run, 1.0)
    assert fate(run, "probe/pnmi", 2)[0].value == "open"
    others = [{"kind": "comparison"}, LINE | {"chosen": False}, LINE | {"representation": "random_init"}]
    lines = [*others, LINE | {"step": 5, "mean": 0.2}, LINE | {"step": 10, "mean": 0.4}]
    (run / "probes.jsonl").write_text(
        "".join(json.dumps({"step": 10, "mean": 9} | each) + "\n" for each in lines)
    )
    assert series(run, "probe/pnmi") == {5: 0.2, 10: 0.4}
    found, value = fate(run, "probe/pnmi", 2)
    assert (found.value, value) == ("scored", 0.4)


def test_a_probe_on_the_way_is_no_result(tmp_path):
    run = tmp_path / "run"
    finish(run, 1.0)
    lines = [LINE | {"step": 5, "mean": 0.9}]
    (run / "probes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert fate(run, "probe/pnmi", 2)[0].value == "open"
    lines.append(LINE | {"step": 10, "mean": 0.4})
    (run / "probes.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    assert fate(run, "probe/pnmi", 2)[1] == 0.4
    facts = {"scheduler": "local", "sweep": "s", "code": "", "batch": "b", "order": "b-0.json"}
    ledger.note(run, "queued", job="", kind="probe", **facts)
    assert fate(run, "probe/pnmi", 2)[0].value == "open"
    ledger.note(run, "ended", job="1", kind="probe", outcome="done", step=10, error="", again=False)
    assert fate(run, "probe/pnmi", 2)[1] == 0.4


def test_axes_keep_their_order_and_scale():
    rate = distribution("optimizer.lr", "tag(log,interval(1e-4,1e-2))")
    assert (rate.low, rate.high, rate.log) == (1e-4, 1e-2, True)
    codes = distribution("quantizer.codes", "range(8,33,8)")
    assert (codes.low, codes.high, codes.step) == (8, 32, 8)
    layers = distribution("encoder.depth", "int(interval(1,9))")
    assert (type(layers.low), layers.low, layers.high) == (int, 1, 9)
    assert distribution("objective", "nest,'best_rq'").choices == ("nest", "'best_rq'")
    assert distribution("schedule", "glob(co*)").choices == ("constant", "cosine")
    made = Recipe(axes={"optimizer.lr": "interval(0,1)", "run.seed": "3,4"}, search=Search("valid/loss"))
    assert list(space(made)) == ["optimizer.lr"]
    assert points({"optimizer.lr": 0.5}, made) == [
        {"optimizer.lr": "0.5", "run.seed": "3"}, {"optimizer.lr": "0.5", "run.seed": "4"}
    ]  # fmt: skip


def others(folder, count, *losses):
    """Make runs that are done, and give their names."""
    names = [f"run-{k}" for k in range(count)]
    for name in names:
        finish(folder / name, *losses)
    return names


@pytest.mark.filterwarnings("ignore:All-NaN")
@pytest.mark.parametrize(
    ("count", "warmup", "own", "stops"),
    [
        (FIRST, 0, (9.0, 5.0), True),
        (FIRST, 0, (9.0, 1.5), False),
        (FIRST - 1, 0, (9.0, 5.0), False),
        (FIRST, 21, (9.0, 5.0), False),
        (FIRST, 20, (9.0, 5.0), True),
        (FIRST, 0, (1.0, 5.0), False),  # it was better before
        (FIRST, 0, (math.nan,), True),
    ],
)
def test_a_run_is_pruned_when_it_is_worse_than_most_were(tmp_path, count, warmup, own, stops):
    names = others(tmp_path, count, 4.0, 2.0, 1.0)
    tell_jobs(tmp_path, Search("valid/loss", prune=Prune.median, warmup=warmup), [*names, "own", "not-begun"])
    measure(tmp_path / "own", *own[:-1])
    asked = pruner(tmp_path, tmp_path / "own")
    assert asked(10 * len(own), {"loss": own[-1]}) is stops


def test_a_run_is_compared_in_the_direction_of_the_search(tmp_path):
    names = others(tmp_path, FIRST, 4.0)
    tell_jobs(tmp_path, Search("valid/loss", Direction.maximize, prune=Prune.median), names)
    assert Pruner(tmp_path, tmp_path / "own")(10, {"loss": 3.0})
    assert not Pruner(tmp_path, tmp_path / "own")(10, {"loss": 5.0})


def test_nobody_watches_without_need(tmp_path):
    assert pruner(tmp_path, tmp_path / "own") is None
    tell_jobs(tmp_path, Search("valid/loss"), [])
    assert pruner(tmp_path, tmp_path / "own") is None


def test_a_bad_run_is_stopped_with_a_checkpoint_and_its_trial_is_pruned(speech, tmp_path, monkeypatch):
    shared = (
        *TINY, f"data.train=[{speech['train']}]", f"data.valid=[{speech['valid']}]", f"run.folder={tmp_path}",
        "train.steps=40", "train.validate_every=4", "checkpoint.every=100",
    )  # fmt: skip
    search = Search("valid/loss", trials=FIRST + 2, parallel=FIRST, prune=Prune.median)
    trials = opened(Recipe("mine", shared, {"optimizer.lr": "interval(1e-4,1e-3)"}, search))
    for cell in trials.ask():
        cell.folder.mkdir()
        line = {"step": 4, "split": "valid", "time": 0, "loss": 0.01}
        (cell.folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        (cell.folder / "done.json").write_text('{"steps": 40, "time": 0}')
    bad, _ = trials.ask()
    values = {"plugins": bad.composed.choices, **runs.values_of(bad.config)}
    order = Order(str(bad.folder), "mine", str(trials.folder), "", str(Path.cwd()), "train", values)
    runs.create(bad.config, bad.composed.choices, [])
    order.save(tmp_path / "order.json")
    monkeypatch.setattr(sys, "path", list(sys.path))  # a job adds to it
    assert perform(tmp_path / "order.json") == 0
    ended = ledger.events(bad.folder)[-1]
    assert (ended["outcome"], ended["step"], ended["again"]) == ("pruned", 5, False)
    assert not runs.finished(bad.folder)
    trials.tell()
    assert [each.state for each in trials.tried()] == ["complete"] * FIRST + ["pruned", "running"]
