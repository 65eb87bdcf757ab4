"""What checkpoints survive: damage, a full disk, a kill, another number of ranks."""

import os
import resource
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from research.engine import files
from research.engine.checkpoint import Checkpoints
from research.engine.weights import MODEL, DamagedError, load_model, newest_model, read, steps
from research.errors import HarkError
from tests.engines import OPTIMIZER, TRAINER, is_whole, open_at, run_ranks, save_three, states


@pytest.fixture
def folder(tmp_path):
    return save_three(tmp_path)


def truncate(file):
    os.truncate(file, file.stat().st_size // 2)


def empty(file):
    os.truncate(file, 0)


def flip(file):
    data = bytearray(file.read_bytes())
    place = data.index(torch.full((10,), 3.0).numpy().tobytes()) if MODEL in str(file) else len(data) // 2
    data[place] ^= 0xFF
    file.write_bytes(data)


def garble(file):
    file.write_bytes(np.random.default_rng(0).bytes(file.stat().st_size))


@pytest.mark.parametrize("file", [MODEL, OPTIMIZER, TRAINER])
@pytest.mark.parametrize("damage", [truncate, empty, garble, Path.unlink])
def test_damage_to_the_newest_is_passed_over_with_one_line(folder, file, damage, caplog):
    damage(folder / "step_3" / file)
    assert is_whole(open_at(folder).load(), 2)
    [line] = caplog.messages
    assert f"step_3/{file}" in line
    assert "going back to step 2" in line
    assert "\n" not in line
    assert steps(folder) == [2, 1]  # set aside: it neither counts as kept nor is met again
    assert (folder / "step_3.damaged").is_dir()


def test_one_flipped_bit_is_damage(folder, caplog):
    flip(folder / "step_3" / MODEL)
    assert torch.load(folder / "step_3" / MODEL)["w"][0] != 3.0  # torch alone would not tell
    step, model = newest_model(folder)
    assert (step, model["w"][0]) == (2, 2.0)
    assert "step_3" in caplog.text
    with pytest.raises(HarkError, match=f"step_3/{MODEL}"):
        load_model(folder / "step_3")
    assert steps(folder) == [3, 2, 1]  # who only looks moves nothing
    assert is_whole(open_at(folder).load(), 2)


def test_a_damaged_step_is_saved_anew(folder):
    truncate(folder / "step_3" / MODEL)
    checkpoints = open_at(folder)
    checkpoints.load()
    checkpoints.save(3, *states(3))
    assert is_whole(checkpoints.load(), 3)


def test_nothing_but_damage_is_an_error_and_nothing_is_moved(folder):
    for step in (1, 2, 3):
        truncate(folder / f"step_{step}" / MODEL)
    with pytest.raises(HarkError, match="every checkpoint is damaged"):
        open_at(folder).load()
    with pytest.raises(HarkError, match="every checkpoint here is damaged"):
        load_model(folder)
    assert steps(folder) == [3, 2, 1]


def test_a_file_of_someone_else_is_not_damage(folder, monkeypatch):
    def refuse(file):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("zipfile.ZipFile", refuse)  # root may read everything
    with pytest.raises(HarkError, match=r"cannot be read \(Permission denied\)"):
        open_at(folder).load()


def test_leftovers_of_a_kill_are_removed(folder):
    (folder / "step_4.tmp" / "model").mkdir(parents=True)
    assert is_whole(open_at(folder).load(), 3)
    assert not list(folder.glob("*.tmp"))


def fill_disk_and_save(ranks, folder, size):
    """A limit on the size of a file stands for the end of the disk."""
    checkpoints = Checkpoints(folder, ranks, 3, 0)
    assert is_whole(checkpoints.load(), 3)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    checkpoints.save(4, *states(4, size=100_000))
    with pytest.raises(
        HarkError, match="rank 0" if ranks.rank else r"step 4 .*File too large; [\d.]+ GB are free"
    ):
        checkpoints.wait()
    assert sorted(path.name for path in folder.glob("step_*")) == ["step_1", "step_2", "step_3"]
    ranks.barrier()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    checkpoints.save(5, *states(5))
    assert is_whole(checkpoints.load(), 5)


@pytest.mark.parametrize("room", [0, 300_000])
def test_a_full_disk_leaves_the_old_checkpoints(folder, room):
    """On two ranks: the one that does not write learns of it too."""
    run_ranks(2, fill_disk_and_save, folder, room)


def test_a_full_file_system_leaves_the_old_checkpoints(tmp_path):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=False)
    if mounted.returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        checkpoints = open_at(tmp_path)
        checkpoints.save(1, *states(1))
        checkpoints.save(2, *states(2, size=1_000_000))
        with pytest.raises(HarkError, match="No space left on device"):
            checkpoints.wait()
        assert is_whole(open_at(tmp_path).load(), 1)
        assert not list(tmp_path.glob("*.tmp"))
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def unreadable_step_4(file):
    if "step_4" in str(file):
        raise DamagedError(file)
    return read(file)


def load_then_save(ranks, folder):
    checkpoints = Checkpoints(folder, ranks, 3, 1)
    assert is_whole(checkpoints.load(), 3)
    checkpoints.save(4, *states(4), 1.0)
    checkpoints.wait()
    assert steps(folder) == [4, 3, 2]
    if ranks.rank == 1:
        files.read = unreadable_step_4
    assert is_whole(checkpoints.load(), 3)  # both go back, though only one has to
    checkpoints.save(5, *states(5))
    checkpoints.close()


def test_one_rank_and_two_ranks_read_each_other(folder):
    run_ranks(2, load_then_save, folder)
    assert is_whole(open_at(folder).load(), 5)


SAVING = """
import signal, sys
from itertools import count
from pathlib import Path
from research.engine import files
from research.engine.checkpoint import Checkpoints
from research.engine.gangs import start
from tests.engines import states
heard = []
signal.signal(signal.SIGUSR2, lambda *_: heard.append(1))
checkpoints = Checkpoints(Path(sys.argv[1]), start("cpu"), 2, 1)
print("ready", flush=True)
for step in count(1):
    checkpoints.save(step, *states(step, size=200_000), 1 / step)
    if len(heard) > 3 and step > 2:  # two are whole
        print(len(heard), flush=True)
"""


def test_kill_and_signals_during_a_save_leave_a_checkpoint(tmp_path):
    """Signals are heard and disturb no save; SIGKILL, sent while a folder is half written, loses that one only."""
    with subprocess.Popen([sys.executable, "-c", SAVING, tmp_path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            while not select.select([process.stdout], [], [], 0.002)[0]:
                process.send_signal(signal.SIGUSR2)
            assert int(process.stdout.readline()) > 3
            half = []
            while not half:
                time.sleep(0.0005)
                with suppress(FileNotFoundError):  # it became whole, and lost its name, while it was listed
                    half = list(tmp_path.glob("step_*.tmp/*/*"))
        finally:
            process.kill()
    newest = steps(tmp_path)[0]
    assert is_whole(open_at(tmp_path).load(), newest, size=200_000)
    assert not list(tmp_path.glob("*.tmp"))
