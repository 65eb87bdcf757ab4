"""Checkpoints: what was saved is loaded, what need not be kept goes."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from research.engine.checkpoint import HOST, copied
from research.engine.weights import MODEL, load_model, steps
from research.errors import HarkError
from tests.engines import OPTIMIZER, TRAINER, is_whole, open_at, save_three, states


@pytest.fixture
def folder(tmp_path):
    return save_three(tmp_path)


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


def test_what_cannot_be_removed_is_no_failed_save(tmp_path, monkeypatch, caplog):
    """As on a network's disk where somebody reads it."""
    checkpoints = open_at(tmp_path, keep_last=1)
    checkpoints.save(1, *states(1))
    checkpoints.wait()
    delete = checkpoints.manager.delete_checkpoint

    def refuse(step, **how):
        if step == 1:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        delete(step, **how)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.manager, "delete_checkpoint", refuse)
        checkpoints.save(2, *states(2))
        checkpoints.wait()
    assert "step 1 cannot be removed yet (Directory not empty)" in caplog.text
    assert steps(tmp_path) == [2, 1]
    checkpoints.save(3, *states(3))
    checkpoints.close()
    assert steps(tmp_path) == [3]


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


def test_only_plain_values_are_taken(tmp_path):
    with pytest.raises(TypeError, match="Path"):
        open_at(tmp_path).save(1, {}, {}, {"where": Path()})
    with pytest.raises(TypeError, match="float64"):
        copied([{"a": np.float64(1)}], HOST)
    weight = torch.ones(2, requires_grad=True)
    copy = copied({"a": [weight, (1, 2.0, None, True, "x")]}, HOST)
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
