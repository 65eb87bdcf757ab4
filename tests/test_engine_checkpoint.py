"""Checkpoints: what survives a kill, a full disk, damage and another number of ranks."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from research.engine import checkpoint
from research.engine.checkpoint import Checkpoints, on_host
from research.engine.gangs import start
from research.engine.weights import MODEL, DamagedError, load_model, read, steps
from research.errors import HarkError
from tests.test_engine import one_process, run_ranks  # noqa: F401  a fixture

OPTIMIZER = MODEL.replace("model", "optimizer")
TRAINER = "trainer/rank_00.pt"


def states(step, size=10):
    """States that tell their step: (model, optimizer, trainer)."""
    moments = {0: {"step": torch.tensor(float(step)), "exp_avg": torch.full((size,), step * 0.1)}}
    groups = [{"lr": 1e-3, "betas": (0.9, 0.98), "fused": True, "foreach": None, "params": [0]}]
    trainer = {"step": step, "cost": {"wall": 1.5}, "name": "ä"}
    return {"w": torch.full((size,), float(step))}, {"state": moments, "param_groups": groups}, trainer


def is_whole(state, step, size=10):
    model, optimizer, trainer = states(step, size)
    assert torch.equal(state.model["w"], model["w"])
    assert torch.equal(state.optimizer["state"][0]["exp_avg"], optimizer["state"][0]["exp_avg"])
    assert state.optimizer["param_groups"] == optimizer["param_groups"]
    return (state.step, state.trainer) == (step, trainer)


def open_at(folder, keep_last=3, keep_best=0):
    return Checkpoints(folder, start("cpu"), keep_last, keep_best)


@pytest.fixture
def folder(tmp_path):
    """Checkpoints of steps 1 to 3."""
    checkpoints = open_at(tmp_path)
    for step in (1, 2, 3):
        checkpoints.save(step, *states(step))
    checkpoints.close()
    return tmp_path


def test_what_was_saved_is_loaded(folder):
    checkpoints = open_at(folder)
    assert is_whole(checkpoints.load(), 3)
    assert torch.equal(load_model(folder)["w"], torch.full((10,), 3.0))
    assert torch.equal(load_model(folder / "step_2")["w"], torch.full((10,), 2.0))


def test_the_steps_are_those_fairseq2_sees(folder):
    assert steps(folder) == open_at(folder).manager.get_step_numbers()[::-1] == [3, 2, 1]


def test_no_checkpoint_is_a_fresh_start(tmp_path):
    assert open_at(tmp_path / "none").load() is None
    with pytest.raises(HarkError, match="no checkpoint"):
        load_model(tmp_path)


def test_a_save_holds_the_values_of_its_moment(tmp_path):
    checkpoints = open_at(tmp_path)
    model, optimizer, trainer = states(1)
    checkpoints.save(1, model, optimizer, trainer)
    model["w"].zero_()
    trainer["step"] = 99
    assert is_whole(checkpoints.load(), 1)


def test_adamw_goes_on_exactly(tmp_path):
    def steps_of(model, optimizer, first, last):
        for step in range(first, last):
            torch.manual_seed(step)
            model(torch.randn(4, 3)).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    def fresh():
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        return model, torch.optim.AdamW(model.parameters(), fused=True)

    straight, optimizer = fresh()
    steps_of(straight, optimizer, 0, 6)
    first, optimizer = fresh()
    steps_of(first, optimizer, 0, 3)
    open_at(tmp_path).save(3, first.state_dict(), optimizer.state_dict(), {})
    while not steps(tmp_path):
        time.sleep(0.01)
    state = open_at(tmp_path).load()
    second, optimizer = fresh()
    second.load_state_dict(state.model)
    optimizer.load_state_dict(state.optimizer)
    steps_of(second, optimizer, state.step, 6)
    assert torch.equal(straight.weight, second.weight)


def test_last_and_best_are_kept(tmp_path):
    checkpoints = open_at(tmp_path, keep_last=2, keep_best=2)
    losses = [float("nan"), 3.0, 0.5, None, 1.0, float("inf"), -1e30, 2.0, 9.0, None]
    for step, loss in enumerate(losses, start=1):
        checkpoints.save(step, *states(step), loss)
    checkpoints.close()
    assert steps(tmp_path) == [10, 9, 7, 3]  # newest two; lowest two losses


@pytest.mark.parametrize("keep", [(0, 1), (1, -1)])
def test_nothing_to_keep_is_refused(tmp_path, keep):
    with pytest.raises(HarkError, match="keep_last"):
        open_at(tmp_path, *keep)


def test_a_step_that_was_loaded_is_not_written_again(folder):
    checkpoints = open_at(folder)
    before = (folder / "step_3" / MODEL).stat().st_ino
    checkpoints.load()
    checkpoints.save(3, *states(3))
    checkpoints.wait()
    assert (folder / "step_3" / MODEL).stat().st_ino == before


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
    assert load_model(folder)["w"][0] == 2.0
    assert "step_3" in caplog.text
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
        checkpoint.read = unreadable_step_4
    assert is_whole(checkpoints.load(), 3)  # both go back, though only one has to
    checkpoints.save(5, *states(5))
    checkpoints.close()


def test_one_rank_and_two_ranks_read_each_other(folder):
    run_ranks(2, load_then_save, folder)
    assert is_whole(open_at(folder).load(), 5)


SAVING = """
import signal, sys
from pathlib import Path
from research.engine import checkpoint
from research.engine.checkpoint import Checkpoints
from research.engine.gangs import start
from tests.test_engine_checkpoint import states
heard = []
signal.signal(signal.SIGUSR2, lambda *_: heard.append(1))
checkpoints = Checkpoints(Path(sys.argv[1]), start("cpu"), 2, 1)
print("ready", flush=True)
for step in range(1, 10_000):
    checkpoints.save(step, *states(step, size=200_000), 1 / step)
    if len(heard) > 3:
        print(len(heard), flush=True)
"""


def test_kill_and_signals_during_a_save_leave_a_checkpoint(tmp_path):
    """Signals are heard and disturb no save; SIGKILL, sent while a folder is half written, loses that one only."""
    with subprocess.Popen([sys.executable, "-c", SAVING, tmp_path], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        while len(steps(tmp_path)) < 2:
            process.send_signal(signal.SIGUSR2)
            time.sleep(0.002)
        assert int(process.stdout.readline()) > 3
        while not list(tmp_path.glob("step_*.tmp/*/*")):
            time.sleep(0.0005)
        process.kill()
    newest = steps(tmp_path)[0]
    assert is_whole(open_at(tmp_path).load(), newest, size=200_000)
    assert not list(tmp_path.glob("*.tmp"))


def test_only_plain_values_are_taken(tmp_path):
    with pytest.raises(TypeError, match="Path"):
        open_at(tmp_path).save(1, {}, {}, {"where": Path()})
    with pytest.raises(TypeError, match="float64"):
        on_host([{"a": np.float64(1)}])
    weight = torch.ones(2, requires_grad=True)
    copy = on_host({"a": [weight, (1, 2.0, None, True, "x")]})
    assert copy["a"][0].data_ptr() != weight.data_ptr()
    assert not copy["a"][0].requires_grad
    assert copy["a"][1] == (1, 2.0, None, True, "x")


def test_loading_runs_no_code(folder):
    """A checkpoint from elsewhere can hold anything; only tensors and plain values are read."""

    class Evil:
        def __reduce__(self):
            return os.system, ("touch evil",)

    torch.save({"w": Evil()}, folder / "step_3" / MODEL)
    assert load_model(folder)["w"][0] == 2.0
    assert not Path("evil").exists()


def test_everything_is_on_the_disk_before_the_name_is_final(tmp_path, monkeypatch):
    """Files, then the folders that name them, then the rename, then the folder of the rename."""
    done = []
    real = os.fsync

    def fsync(number):
        name = Path(f"/proc/self/fd/{number}").readlink().relative_to(tmp_path).as_posix()
        done.append((name, (tmp_path / "step_1").exists()))
        real(number)

    monkeypatch.setattr(os, "fsync", fsync)
    checkpoints = open_at(tmp_path)
    checkpoints.save(1, *states(1), 0.5)
    checkpoints.wait()
    early = {name for name, renamed in done if not renamed}
    assert early >= {f"step_1.tmp/{name}" for name in (MODEL, OPTIMIZER, TRAINER)}
    assert early >= {"step_1.tmp", "step_1.tmp/model/pp_00", "scores/step_1.txt"}
    assert done[-1] == (".", True)
