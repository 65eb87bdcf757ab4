"""`hark sync` against a small server of our own: what is uploaded, in which order, and never twice."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from research.training.sent import OFFLINE, ONLINE, files, records, sent, synced
from tests import runs
from tests.test_wandb import OFF, score
from tests.wandb_server import KEY, serving

ONLINE_RUN = ("train.steps=16", "log.wandb=online", "log.group=sizes")


def hark(*words, cwd=None, **env):
    environment = os.environ | {"WANDB_API_KEY": "", "NETRC": os.devnull} | env
    done = subprocess.run(
        [sys.executable, "-m", "research.cli", *map(str, words)], env=environment, text=True, cwd=cwd or runs.ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=600, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture
def server():
    with serving() as one:
        yield one


def reach(server):
    return {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY}


def kill(process):
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    psutil.wait_procs(children, timeout=30)


def logged(run):
    return {json.loads(line)["step"]: None for line in (run / "metrics.jsonl").read_text().splitlines()}


def test_what_was_written_without_a_network_becomes_one_run(speech, tmp_path, server):
    process = runs.start(speech, tmp_path, *OFF, env=runs.held(tmp_path, 10))
    runs.wait_for_step(tmp_path, 10, process)
    kill(process)
    run = runs.only_run(tmp_path)
    code, said = hark("sync", "--folder", tmp_path, "--dry-run")
    assert code == 0, said
    assert f"{run}: 1 start" in said
    assert not list(run.glob("wandb/*/*.synced"))
    code, said = hark("sync", run, **reach(server))
    assert code == 0, said
    up = server.steps(run.name)
    assert up == list(range(1, up[-1] + 1))
    assert up[-1] in (4, 8)
    runs.train(speech, tmp_path, *OFF)
    code, said = hark("sync", run, **reach(server))
    assert code == 0, said
    assert server.steps(run.name) == list(range(1, 17))
    assert [json.loads(line)["train/loss"] for line in server.history[run.name]] == list(
        runs.losses(run).values()
    )
    facts = server.facts[run.name]
    assert (facts["groupName"], facts["jobType"], facts["tags"][0]) == ("sizes", "train", "short")
    assert all(map(synced, files(run, kind=OFFLINE)))
    code, said = hark("sync", run, **reach(server))
    assert (code, said.strip()) == (0, "W&B has everything")
    assert len(server.history[run.name]) == 16


def test_online_goes_on_after_what_the_server_has(speech, tmp_path, server):
    env = reach(server)
    process = runs.start(speech, tmp_path, *ONLINE_RUN, env=env | runs.held(tmp_path, 11))
    runs.wait_for_step(tmp_path, 11, process)
    kill(process)
    run = runs.only_run(tmp_path)
    runs.train(speech, tmp_path, *ONLINE_RUN, env=env)
    assert server.steps(run.name) == list(range(1, 17))
    assert [json.loads(line)["train/loss"] for line in server.history[run.name]] == list(
        runs.losses(run).values()
    )
    assert len(files(run, kind=ONLINE)) == 2


def test_what_an_online_run_could_not_send_is_made_up_for(speech, tmp_path, server):
    """A server that was away all the time; then all of it, with what was written offline, is sent once."""
    run = runs.train(speech, tmp_path, "train.steps=2", "log.wandb=offline")
    (run / "wandb" / "run-20250101_000000-x").mkdir()
    empty = run / "wandb" / "run-20250101_000000-x" / f"run-{run.name}.wandb"
    empty.touch()
    code, said = hark("sync", run, **reach(server))
    assert code == 0, said
    assert server.steps(run.name) == [1, 2]
    assert all(map(synced, [*files(run, kind=ONLINE), *files(run, kind=OFFLINE)]))
    code, said = hark("sync", run, **reach(server))
    assert (code, said.strip()) == (0, "W&B has everything")


def test_a_failure_does_not_stop_the_others_and_is_made_up_for(speech, tmp_path, server):
    run = runs.train(speech, tmp_path, "train.steps=2", "log.wandb=offline")
    server.down = True
    code, said = hark("sync", "--folder", tmp_path, **reach(server))
    assert code == 1, said
    assert "was not uploaded" in said
    assert "Traceback" not in said
    server.down = False
    code, said = hark("sync", "--folder", tmp_path, **reach(server))
    assert code == 0, said
    assert server.steps(run.name) == [1, 2]


def test_a_file_that_was_cut_off_is_uploaded_once(speech, tmp_path, server):
    """As a node leaves it that loses power: W&B's own upload gives up at the end of the file."""
    run = runs.train(speech, tmp_path, "train.steps=8", "log.wandb=offline")
    (file,) = files(run, kind=OFFLINE)
    os.truncate(file, file.stat().st_size // 2)
    code, said = hark("sync", run, **reach(server))
    assert code == 0, said
    assert server.steps(run.name) == list(range(1, 9))
    code, said = hark("sync", run, **reach(server))
    assert (code, said.strip()) == (0, "W&B has everything")


def test_no_login_and_no_network_are_one_line(speech, tmp_path):
    runs.train(speech, tmp_path, "train.steps=1", "log.wandb=offline")
    code, said = hark("sync", "--folder", tmp_path)
    assert code == 2
    assert "nobody is logged in" in said
    code, said = hark("sync", "--folder", tmp_path, WANDB_BASE_URL="http://127.0.0.1:9", WANDB_API_KEY=KEY)
    assert (code, len(said.splitlines())) == (2, 1)
    assert "Connection refused" in said


def test_a_sweep_becomes_a_table(speech, tmp_path, server):
    one = runs.train(speech, tmp_path, "train.steps=8", "log.wandb=offline")
    (one / "probes.jsonl").write_text(score(8, 0.5))
    sweep = tmp_path / "sweeps" / "sizes"
    sweep.mkdir(parents=True)
    cells = {
        one.name: {"differs": {"quantizer.codes": "64"}},
        "run-0123456789": {"differs": {"quantizer.codes": "9"}},
    }
    (sweep / "sweep.json").write_text(json.dumps({"cells": cells}))
    code, said = hark("sync", "sizes", "--folder", tmp_path, **reach(server))
    assert code == 0, said
    (file,) = files(sweep, kind=OFFLINE)
    (about,) = [record["run"] for record in records(file) if record["type"] == "run"]
    assert (about["run_id"], about["job_type"], about["run_group"]) == ("sizes", "sweep", "sizes")
    assert sent(sweep).summary["cells/done"] == 1
    table = json.loads(next(file.parent.glob("files/media/table/*.json")).read_text())
    first, second = (dict(zip(table["columns"], row, strict=True)) for row in table["data"])
    assert (first["run"], first["quantizer.codes"], first["state"]) == (one.name, "64", "done")
    assert first["best valid loss"] == min(runs.losses(one, "valid").values())
    assert (first["probe phones"], second["state"], second["valid loss"]) == (0.5, "missing", None)
    assert server.facts["sizes"]["jobType"] == "sweep"
    hark("sync", "sizes", "--folder", tmp_path, **reach(server))
    assert files(sweep, kind=OFFLINE) == [file]
