"""What commands of one sweep share: no cell is ever lost, and two commands do not meet."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from research.compose import compose_config
from research.errors import HarkError
from research.launch.sweep import folder
from research.launch.sweep.cell import Cell
from research.launch.sweep.folder import Folder, locked

HOLD = """
import sys
from pathlib import Path
from research.launch.sweep.folder import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    input()
"""


@pytest.fixture(scope="module")
def composed():
    return compose_config([])


def cell(composed, root, seed, **differs):
    return Cell((f"run.seed={seed}",), {"run.seed": str(seed), **differs}, composed, root / f"run-{seed}")


def test_cells_of_all_commands_are_kept_and_the_last_word_counts(composed, tmp_path):
    sweep = Folder(tmp_path / "sweeps" / "debs")
    assert sweep.read() == {"name": "debs", "typed": [], "cells": {}}
    assert not sweep.path.exists()
    before = time.time()
    sweep.add(["debs"], [cell(composed, tmp_path, 1), cell(composed, tmp_path, 2)])
    refused = Cell(("run.seed=x",), {"run.seed": "x"}, refused="no number")
    sweep.add(["debs", "lr=1,2"], [cell(composed, tmp_path, 2, lr="1"), cell(composed, tmp_path, 3), refused])
    found = json.loads((sweep.path / "sweep.json").read_text())
    assert found == Folder(sweep.path).read()
    assert list(found["cells"]) == ["run-1", "run-2", "run-3"]
    assert found["cells"]["run-1"] == {"differs": {"run.seed": "1"}, "overrides": ["run.seed=1"]}
    assert found["cells"]["run-2"]["differs"] == {"run.seed": "2", "lr": "1"}
    assert [typed["words"] for typed in found["typed"]] == [["debs"], ["debs", "lr=1,2"]]
    assert before <= found["typed"][0]["time"] <= found["typed"][1]["time"] <= time.time()


@pytest.mark.parametrize("name", ["code", "local", "lock", ".hidden", "a/b", ".."])
def test_names_that_are_taken_or_no_names_are_refused(tmp_path, name):
    with pytest.raises(HarkError, match="a sweep cannot have this name; type --name"):
        Folder(tmp_path / "sweeps" / name)


def add(composed, root, first):
    sweep = Folder(root / "sweeps" / "debs")
    for seed in range(first, first + 10):
        with locked(root):
            sweep.add([], [cell(composed, root, seed)])


def test_commands_at_the_same_time_lose_no_cell(composed, tmp_path):
    fork = multiprocessing.get_context("fork")
    others = [fork.Process(target=add, args=(composed, tmp_path, 10 * k)) for k in range(3)]
    for other in others:
        other.start()
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert len(Folder(tmp_path / "sweeps" / "debs").read()["cells"]) == 30


@pytest.fixture
def other(tmp_path):
    """A process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_who_holds_the_lock_is_told(tmp_path, monkeypatch, caplog, other):
    monkeypatch.setattr(folder, "PATIENCE", 0.3)
    who = f"process {other.pid} of .* on {socket.gethostname()}"
    with pytest.raises(HarkError, match=f"lock: is held by {who}; wait for it"), locked(tmp_path):
        pass
    assert f"waiting for process {other.pid}" in caplog.text


def test_the_lock_ends_with_its_holder(tmp_path, other):
    other.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        said = (tmp_path / "sweeps" / "lock").read_text()
    assert said.startswith(f"process {os.getpid()} of")
    with locked(tmp_path):  # given back
        pass


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.lockf", none)
    with pytest.raises(HarkError, match=r"cannot be locked \(Function not implemented\)"), locked(tmp_path):
        pass
    assert not list(Path(tmp_path).glob("sweeps/*/"))
