"""Probes on the way: what is trained notices nothing of them, and none is lost, or put twice, whatever happens."""

import json
import multiprocessing
import signal
import time

import pytest
import torch

from research import registry
from research.cli import main
from research.compose import compose_config
from research.config import Checkpoint
from research.engine.weights import steps
from research.errors import HarkError
from research.launch.sweep import folder, ledger
from research.launch.sweep.backend import Live
from research.launch.sweep.folder import locked
from research.launch.sweep.order import Order
from research.launch.watch import jobs, notes
from research.launch.watch.jobs import settle
from research.launch.watch.train import train
from research.launch.watch.watcher import Watcher
from research.training.follower import waiting
from research.training.sent import sent
from tests import runs
from tests.standings import Scheduler, began, submitted, sweep_of
from tests.test_wandb import history
from tests.watching import WATCH, leg, panel_in, run_in, words

PATIENCE = 120
JOB = (*WATCH, "watch.every=6", "watch.where=job")


@pytest.fixture(scope="module")
def panel(corpus, speech, tmp_path_factory):
    """A folder of manifests and probes that jobs find, too."""
    torch.set_num_threads(1)
    folder = panel_in(tmp_path_factory.mktemp("panel"), corpus, speech)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder))
        patch.setenv("HARK_PLUGINS", "quick_probes")
        registry.load_plugins()
        assert "quick" in registry.names("probe")
        yield folder


@pytest.fixture(scope="module")
def plain(panel, tmp_path_factory):
    return done(panel, tmp_path_factory.mktemp("plain"))


def done(panel, root, *overrides):
    assert train(compose_config(words(panel, root, *overrides))) == 0
    return run_in(root)


def curve(run):
    """Step -> what metrics.jsonl says of its probes, each once."""
    found = runs.metrics(run, "probe")
    assert len({record["step"] for record in found}) == len(found)
    return {record["step"]: record for record in found}


def probed(run):
    """Step -> lines of probes.jsonl."""
    found = {}
    for line in map(json.loads, (run / "probes.jsonl").read_text().splitlines()):
        found.setdefault(line["step"], []).append(line)
    return found


def same(run, other):
    """Whether two trainings are the same to the bit."""
    assert run.name == other.name
    assert runs.losses(run) == runs.losses(other)
    assert runs.losses(run, "valid") == runs.losses(other, "valid")
    return runs.weights_hash(run) == runs.weights_hash(other)


def until(true, what):
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        time.sleep(0.2)


def test_a_probed_training_is_the_same_to_the_bit_and_its_numbers_are_drawn_over_steps(
    plain, panel, tmp_path
):
    run = done(panel, tmp_path, *WATCH, "log.wandb=offline")
    assert same(run, plain)
    assert sorted(curve(run)) == sorted(probed(run)) == [3, 6]
    for step, lines in probed(run).items():
        chosen = [line for line in lines if line["kind"] == "score" and line["chosen"] and line["headline"]]
        ours, theirs = (
            {one["representation"]: one["mean"] for one in chosen}[side]
            for side in ("pretrained", "random_init")
        )
        logged = curve(run)[step]
        assert (logged["quick/pretrained"], logged["quick/random_init"]) == (ours, theirs)
        assert logged["quick/gain"] == pytest.approx(ours - theirs)
        assert logged["seconds"] > 0
    drawn = {step: values for step, values in history(run) if "probe/quick/gain" in values}
    assert {step: values["probe/step"] for step, values in drawn.items()} == {3: 3, 6: 6}
    assert steps(run / "checkpoints") == [8]
    late(run)


def late(run):
    """A job that ends after the training is logged, and W&B gets a row behind all others, once."""
    notes.note(run, "probed", 2, values={"quick/gain": 0.25})
    for _ in range(2):
        settle(run, Checkpoint(keep_last=1, keep_best=0), set())
        assert sorted(curve(run)) == [2, 3, 6]
        found = {step: values["probe/step"] for step, values in history(run) if "probe/quick/gain" in values}
        assert found == {3: 3, 6: 6, 9: 2}
    assert waiting(run) == (0, False)
    assert sent(run).probes == {2, 3, 6}


DEADLY = (*WATCH, "watch.probes=[quick,deadly]")


def goes_on(panel, root, plain):
    """Type the command again, twice: what was broken off is made up for, once."""
    run = run_in(root)
    assert not curve(run)
    done(panel, root, *DEADLY)
    assert same(run, plain)
    assert sorted(curve(run)) == sorted(probed(run)) == [3, 6]
    before = (run / "probes.jsonl").read_bytes(), (run / "metrics.jsonl").read_bytes()
    done(panel, root, *DEADLY)
    return ((run / "probes.jsonl").read_bytes(), (run / "metrics.jsonl").read_bytes()) == before


def test_a_probe_that_kills_its_process_is_put_again(plain, panel, tmp_path, monkeypatch):
    monkeypatch.setenv("HARK_TEST_END", f"{tmp_path / 'mark'}:{int(signal.SIGKILL)}")
    assert leg(panel, tmp_path / "runs", *DEADLY) == -signal.SIGKILL
    assert steps(run_in(tmp_path / "runs") / "checkpoints") == [3]
    assert goes_on(panel, tmp_path / "runs", plain)


def test_a_signal_does_not_wait_for_a_probe(plain, panel, tmp_path, monkeypatch):
    monkeypatch.setenv("HARK_TEST_END", f"{tmp_path / 'mark'}:{int(signal.SIGTERM)}")
    assert train(compose_config(words(panel, tmp_path / "runs", *DEADLY))) == 128 + signal.SIGTERM
    assert steps(run_in(tmp_path / "runs") / "checkpoints") == [4, 3]  # one is kept, and one is to be probed
    assert goes_on(panel, tmp_path / "runs", plain)


def test_what_fails_is_one_line_and_the_training_goes_on(plain, panel, tmp_path, capsys):
    run = done(panel, tmp_path, *WATCH, "watch.probes=[hopeless]")
    assert same(run, plain)
    said = capsys.readouterr().out
    assert said.count("not probed (ArithmeticError: out of ideas); the training goes on") == 2
    assert not curve(run)
    assert [end["error"] for end in ledger.events(run, "probe@6") if end["event"] == "ended"] == [
        "ArithmeticError: out of ideas"
    ]
    assert steps(run / "checkpoints") == [8]


def test_ranks_that_share_the_model_wait_for_the_one_that_probes(panel, tmp_path):
    how = (
        "train.batches=2",
        "train.steps=4",
        "train.parallel=fsdp",
        "encoder=conformer_tiny",
        "encoder.channels=8",
    )
    assert leg(panel, tmp_path, *how, *WATCH, size=2) == 0
    assert sorted(curve(run_in(tmp_path))) == [3]
    assert runs.losses(run_in(tmp_path)).keys() == {1, 2, 3, 4}


def test_a_job_of_this_machine_probes_beside_the_training(plain, panel, tmp_path):
    run = done(panel, tmp_path, *JOB)
    assert same(run, plain)
    until(lambda: 6 in curve(run), "the job logs what it found")
    assert sorted(probed(run)) == [6]
    until(lambda: steps(run / "checkpoints") == [8], "a checkpoint goes once it was probed")
    assert main(["status", run.name, "--follow", "--folder", str(tmp_path)]) == 0
    before = (run / "jobs.jsonl").read_bytes()
    done(panel, tmp_path, *JOB)
    assert (run / "jobs.jsonl").read_bytes() == before


def test_a_job_of_a_cluster_probes_a_run_of_a_sweep(slurm, plain, panel, tmp_path):
    cluster = ("cluster=slurm", "cluster.cpus=1", "cluster.memory_gb=0.9", "cluster.hours=0.5")
    assert main(["sweep", "--name", "s", *words(panel, tmp_path, *JOB, *cluster), "--follow"]) == 0
    run = run_in(tmp_path)
    assert same(run, plain)
    assert sorted(curve(run)) == sorted(probed(run)) == [6]
    assert steps(run / "checkpoints") == [8]


def test_lines_of_hark_probe_stay(panel, tmp_path):
    run = done(panel, tmp_path, "checkpoint.keep_last=9", "checkpoint.every=3")
    assert (
        main(
            [
                "probe",
                str(run),
                "--step",
                "3",
                "--probe",
                "quick",
                "--sentences",
                "2",
                "--dev",
                "2",
                "--seeds",
                "3",
            ]
        )
        == 0
    )
    (run / "checkpoints" / "step_8").rename(tmp_path / "gone")
    (run / "done.json").unlink()
    done(panel, tmp_path, "checkpoint.keep_last=9", "checkpoint.every=3", *WATCH)
    assert {step: lines[0]["n_seeds"] for step, lines in probed(run).items()} == {3: 3, 6: 2}
    assert sorted(curve(run)) == [3, 6]


@pytest.mark.parametrize(
    ("words_", "said"),
    [
        (("watch.every=-1",), "watch.every=-1"),
        (("watch.probes=[quik]",), "no probe is called 'quik'; did you mean 'quick'"),
        (("watch.seeds=1",), "watch.seeds=1"),
        (("watch.words='--sedes 3'",), "unrecognized arguments: --sedes 3"),
        (("watch.where=job", "health=rollback"), "type watch.where=loop"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(panel, tmp_path, words_, said):
    with pytest.raises(HarkError, match=said):
        train(compose_config(words(panel, tmp_path / "runs", *WATCH, *words_)))
    assert not (tmp_path / "runs").exists()


def test_a_run_that_went_back_forgets_what_it_found_later(tmp_path):
    for step in (3, 6):
        notes.note(tmp_path, "probed", step, values={"quick/gain": step / 10})
    (tmp_path / "probes.jsonl").write_text('{"step": 3}\n{"step": 6}\n')
    Watcher(tmp_path, compose_config([])).undo(4)
    assert notes.found(tmp_path) == {3: {"quick/gain": 0.3}}
    assert list(probed(tmp_path)) == [3]
    notes.note(tmp_path, "probed", 6, values={"quick/gain": 0.5})
    assert notes.found(tmp_path)[6] == {"quick/gain": 0.5}


def test_a_probe_that_kills_is_given_up():
    began, failed = {"event": "began"}, {"event": "ended", "outcome": "failed", "error": "e 1", "step": 3}
    assert not notes.given_up([began], 2)
    assert notes.given_up([began, began], 2)
    assert not notes.given_up([began, began | {"event": "retried"}, began], 2)
    assert not notes.given_up([began, failed], 2)
    assert notes.given_up([began, failed, began, failed], 2)


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Make a run of 10 steps with checkpoints 4, 8 and 10, its watcher, which asks for jobs, and their scheduler."""
    scheduler = Scheduler()
    monkeypatch.setattr(jobs, "backends", lambda root: {"slurm": scheduler})
    monkeypatch.setattr(jobs, "catch_up", lambda run, say: None)
    run = tmp_path / "codes-aaaaaaaaaa"
    sweep = sweep_of(tmp_path, run.name)
    for step in (4, 8, 10):
        (run / "checkpoints" / f"step_{step}" / "model").mkdir(parents=True)
    composed = compose_config(["watch.every=4", "watch.where=job", "checkpoint.keep_last=1"])
    values = {"cluster": {"scheduler": "slurm"}}
    order = Order(str(run), "codes", str(sweep), "code", str(tmp_path), "train", values)
    return Watcher(run, composed, order), scheduler


def finish(watcher):
    """End the training; give the steps of checkpoints that are left."""
    (watcher.run / "done.json").write_text('{"steps": 10, "time": 0}')
    settle(
        watcher.run, Checkpoint(keep_last=1, keep_best=0), jobs.waiting(watcher.run, watcher.composed.config)
    )
    return steps(watcher.run / "checkpoints")


@pytest.mark.parametrize("kills", [1, 2])
def test_a_job_that_was_started_again_after_a_kill_keeps_its_checkpoint(asked, kills):
    watcher, scheduler = asked
    submitted(watcher.run, "5", kind="probe@4")
    for _ in range(kills + 1):
        began(watcher.run, "5", "probe@4")
    scheduler.lives["5"] = Live("running")
    assert watcher.needed() == {4, 8}
    scheduler.answers = False
    assert watcher.needed() == {4, 8}
    assert finish(watcher) == [10, 8, 4]


def test_a_job_that_is_gone_and_was_killed_too_often_keeps_nothing(asked):
    watcher, scheduler = asked
    submitted(watcher.run, "5", kind="probe@4")
    for _ in range(2):
        began(watcher.run, "5", "probe@4")
    jobs.Jobs(watcher.run, watcher.composed, watcher.order).ask([4])
    assert scheduler.submitted == []
    assert watcher.needed() == {8}
    assert finish(watcher) == [10, 8]


def test_what_could_not_be_submitted_is_there_for_the_next_start(asked, capsys):
    watcher, scheduler = asked
    submitted(watcher.run, "5", kind="probe@4")
    scheduler.answers = False
    watcher.ask()
    assert "slurm does not answer: no squeue; the training goes on" in capsys.readouterr().out
    assert finish(watcher) == [10, 8, 4]
    scheduler.answers, scheduler.lives["5"] = True, Live("running")
    watcher.ask()
    assert [order.kind for order in scheduler.submitted] == ["probe@8"]


def hold(root, held, leave):
    with locked(root):
        held.set()
        leave.wait(PATIENCE)


def test_nobody_else_submits_while_a_training_does(asked, monkeypatch, capsys):
    watcher, scheduler = asked
    monkeypatch.setattr(folder, "PATIENCE", 0.3)
    spawn = multiprocessing.get_context("spawn")
    held, leave = spawn.Event(), spawn.Event()
    other = spawn.Process(target=hold, args=(watcher.run.parent, held, leave))
    other.start()
    try:
        assert held.wait(PATIENCE)
        watcher.ask()
        assert "is held by" in capsys.readouterr().out
        assert scheduler.submitted == []
    finally:
        leave.set()
        other.join()
    watcher.ask()
    assert [order.kind for order in scheduler.submitted] == ["probe@4", "probe@8"]
