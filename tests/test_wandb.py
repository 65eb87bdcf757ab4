"""W&B's own files, read as `wandb sync` would: one run per run folder, whatever happens to the process."""

import json
import random
import re
import signal
import subprocess
import sys

import psutil
import pytest

from research import runs as folders
from research.config import Log
from research.engine.weights import steps
from research.errors import HarkError
from research.training.follower import Follower, catch_up, check
from research.training.sent import OFFLINE, files, records, sent
from tests import runs

OFF = (
    "train.steps=16", "log.wandb=offline", "log.project=ours", "log.group=sizes", f"log.tags=[short,{'x' * 70}]",
)  # fmt: skip


def kept(run, kind):
    """Records of one kind in all of W&B's files of a run, in order."""
    found = [record for file in files(run, kind=OFFLINE) for record in records(file)]
    return [record[kind] for record in found if record["type"] == kind]


def rows(run):
    """What `metrics.jsonl` says, step by step, in W&B's words."""
    found = {}
    for record in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()):
        values = {k: v for k, v in record.items() if k not in ("schema", "step", "split", "time")}
        found.setdefault(record["step"], {}).update({f"{record['split']}/{k}": v for k, v in values.items()})
    return found


def history(run):
    """Step and metrics of all rows, as they were written."""
    items = [row["item"] for row in kept(run, "history")]
    own = [{key: value for key, value in item.items() if "/" in key} for item in items]
    return list(zip([item["_step"] for item in items], own, strict=True))


def terminate_all(process):
    """What SLURM does: every process of the job hears it, those in sessions of their own too."""
    for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
        each.send_signal(signal.SIGTERM)


@pytest.fixture(scope="module")
def disturbed(speech, tmp_path_factory):
    """A run that was killed, told to end with all of its processes, queued again, and then finished."""
    folder = tmp_path_factory.mktemp("disturbed")
    step = random.Random().choice([9, 10, 11])
    first = runs.start(speech, folder, *OFF, env=runs.held(folder, step))
    runs.wait_for_step(folder, step, first)
    first.kill()
    first.communicate()
    held = runs.held(folder, 13)
    gone = {"WANDB_SERVICE": "3-1-tcp-localhost-9"}  # of a process that is gone
    second = runs.start(speech, folder, *OFF, env=held | gone)
    runs.wait_for_step(folder, 13, second)
    terminate_all(second)
    runs.go(held)
    code, said = runs.finish(second)
    assert code == 128 + signal.SIGTERM, said
    assert "W&B cannot" not in said
    run = runs.only_run(folder)
    stopped = max(runs.losses(run))
    assert sent(run).step == stopped
    third = runs.start(speech, folder, *OFF, "log.artifact=true")
    code, said = runs.finish(third)
    assert code == 0, said
    return run


def test_steps_rise_over_all_starts_and_hold_the_numbers_of_the_run(disturbed):
    assert len(files(disturbed, kind=OFFLINE)) >= 3
    assert history(disturbed) == sorted(rows(disturbed).items())


def test_all_starts_are_one_run_with_the_resolved_config(disturbed):
    config = {}
    for run in kept(disturbed, "run"):
        assert (run["run_id"], run["display_name"], run["project"]) == (
            disturbed.name,
            disturbed.name,
            "ours",
        )
        assert (run["run_group"], run["job_type"]) == ("sizes", "train")
        assert run["tags"] == ["short", "x" * 63 + "…"]
        config |= run["config"]["update"]
    assert config["plugins"]["encoder"] == "fastconformer_tiny"
    assert config["train"]["steps"] == 16
    assert config["schedule"]["warmup"] == 5
    exits = [each.get("exit_code", 0) for each in kept(disturbed, "exit")]
    assert exits[-2:] == [128 + signal.SIGTERM, 0]


def test_the_summary_holds_the_last_numbers(disturbed):
    summary = sent(disturbed).summary
    assert summary["valid/loss"] == runs.losses(disturbed, "valid")[16]
    assert summary["train/loss"] == runs.losses(disturbed)[16]


def test_the_trained_model_is_an_artifact_that_a_run_can_be_read_from(disturbed):
    (artifact,) = kept(disturbed, "artifact")
    assert (artifact["name"], artifact["type"]) == (disturbed.name, "model")
    there = {entry["path"]: entry["local_path"] for entry in artifact["manifest"]["contents"]}
    assert {"config.yaml", "checkpoints/step_16/model/pp_00/tp_00/sdp_00.pt"} <= there.keys()
    for path, local in there.items():
        assert local == str(disturbed / path)


def test_a_finished_run_typed_again_adds_nothing(speech, disturbed):
    before = files(disturbed, kind=OFFLINE)
    runs.train(speech, disturbed.parent, *OFF, "log.artifact=true")
    assert files(disturbed, kind=OFFLINE) == before


def test_what_was_sent_is_asked_for_only_where_nobody_else_sends(tmp_path):
    """Else the same row would be sent by two that probe, and end together."""
    (tmp_path / "wandb").mkdir()
    held = f"from research import runs; from pathlib import Path; path = Path({str(tmp_path / 'wandb')!r})\n"
    held += "with runs.only_one(path): print('held', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", held], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    follower = Follower(tmp_path, Log(wandb="offline"), print)
    try:
        other.stdout.readline()
        with pytest.raises(HarkError, match="another process is at this run"):
            follower.send(1)
    finally:
        other.communicate(b"\n", timeout=60)
    follower.send(1)
    follower.forget()


def score(step, mean, **more):
    line = {
        "kind": "score", "probe": "phones", "representation": "pretrained", "layer": 3, "chosen": True, "metric": "acc",
        "headline": True, "mean": mean, "low": mean - 0.1, "high": mean + 0.1, "step": step,
    }  # fmt: skip
    return json.dumps(line | more) + "\n"


def test_what_is_left_behind_is_caught_up_with(speech, tmp_path):
    """A run that is killed for good, and probed: W&B is brought up to its last checkpoint, then to the probes."""
    process = runs.start(speech, tmp_path, *OFF, env=runs.held(tmp_path, 7))
    runs.wait_for_checkpoint(tmp_path, 4, process)
    terminate = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    psutil.wait_procs(terminate, timeout=30)
    run, said = runs.only_run(tmp_path), []
    catch_up(run, said.append)
    saved = list(range(1, max(steps(run / "checkpoints")) + 1))
    assert [step for step, _ in history(run)] == saved
    random_init = {"representation": "random_init", "layer": 1}
    mel = {"representation": "log_mel", "layer": None, "chosen": False}
    (run / "probes.jsonl").write_text(
        score(2, 0.3) + score(4, 0.5) + score(4, 0.9, chosen=False) + score(4, 0.2, **random_init)
        + score(4, 0.1, **mel)
    )  # fmt: skip
    catch_up(run, said.append)
    assert [step for step, _ in history(run)] == saved
    summary = sent(run).summary
    assert summary["probe/phones/pretrained/acc"] == 0.5
    assert (summary["probe/phones/pretrained/low"], summary["probe/phones/pretrained/step"]) == (0.4, 4)
    assert (summary["probe/phones/random_init/acc"], summary["probe/phones/log_mel/acc"]) == (0.2, 0.1)
    before = files(run, kind=OFFLINE)
    catch_up(run, said.append)
    assert files(run, kind=OFFLINE) == before
    with folders.only_one(run / "wandb"):  # of this process: fcntl tells processes apart
        pass
    assert not said


def mounted(folder, *options):
    folder.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], check=False).returncode:
        pytest.skip("only root may mount a small file system")


@pytest.mark.parametrize(
    ("options", "reason"),
    [("ro", "Read-only file system"), ("size=16k", "No space left on device|is the disk full")],
)
def test_a_disk_that_takes_nothing_is_told_once_and_stops_no_training(speech, tmp_path, options, reason):
    run = runs.train(speech, tmp_path, "train.steps=2", "train.validate_every=2")
    folder = run / "wandb"
    mounted(folder, "-o", options)
    try:
        process = runs.start(speech, tmp_path, "train.steps=2", "train.validate_every=2", "log.wandb=offline")
        code, said = runs.finish(process)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert code == 0, said
    assert said.count("W&B") == 1, said
    assert re.search(reason, said), said
    assert f"`hark sync {run}`" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("log", "name", "said"),
    [
        (
            Log(wandb="onlin"),
            "run",
            "log.wandb=onlin: type one of offline, online, disabled; did you mean 'online'?",
        ),
        (Log(), "a#b", "W&B takes no # in the name of a run"),
        (Log(), "a" * 129, "takes 128 characters"),
    ],
)
def test_settings_that_wandb_would_refuse_are_an_error(log, name, said):
    with pytest.raises(HarkError, match=said.replace("?", r"\?")):
        check(log, name)
    check(Log(wandb="disabled"), name)


def test_a_wrong_mode_stops_before_the_first_step(speech, tmp_path):
    code, said = runs.finish(runs.start(speech, tmp_path, "log.wandb=onlin"))
    assert code == 2, said
    assert "log.wandb=onlin" in said
    assert not list(tmp_path.glob("*/metrics.jsonl"))
