"""`init=` in a run: once, and on every rank."""

import hashlib
import shutil

import pytest
import torch

from research import runs
from research.compose import compose_config
from research.engine.weights import load_model
from research.interop.initialise import initialise
from research.interop.load import read
from research.model import assemble
from research.training.loop import train
from tests.engines import run_ranks
from tests.origins import TINY, make_run


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run of the model that the tests begin, with other weights."""
    return make_run(tmp_path_factory.mktemp("sources"))


def test_a_run_is_initialised_at_step_0_and_never_again(source, speech, tmp_path, capsys):
    """With a learning rate of 0 the weights stay what `init` gave; the source is not needed to go on."""
    origin = shutil.copytree(source, tmp_path / source.name)
    words = [
        *TINY, f"data.train=[{speech['train']}]", "data.batch_seconds=12", "data.workers=0", "data.reader=torch",
        "optimizer.lr=0", "train.steps=2", "checkpoint.every=1", f"run.folder={tmp_path / 'runs'}", f"init={origin}",
    ]  # fmt: skip
    composed = compose_config(words)
    path = runs.folder(composed.config)
    assert train(composed) == 0
    assert "init: " in capsys.readouterr().out
    state, given = load_model(path / "checkpoints"), read(source).state
    moving = {name for name in state if "running" in name}
    assert all(torch.equal(state[name], given[name]) for name in state if name not in moving)
    assert (path / "init.txt").exists()
    shutil.rmtree(origin)
    shutil.rmtree(path / "checkpoints" / "step_2")
    assert train(composed) == 0
    assert "init: " not in capsys.readouterr().out
    again = load_model(path / "checkpoints")
    assert all(torch.equal(again[name], state[name]) for name in state)


def digest_on(ranks, path, folder):
    cfg = compose_config(list(TINY)).config
    cfg.init = str(path)
    model = assemble(cfg)
    initialise(model, cfg, folder if ranks.rank == 0 else None)
    (folder / f"rank_{ranks.rank}").write_text(digest(model.state_dict().values()))


def digest(tensors):
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in tensors)).hexdigest()


def test_defect_8_every_rank_has_the_weights(source, tmp_path):
    """NeMo initialises rank 0 only, and relies on what comes later to tell the others."""
    run_ranks(2, digest_on, source, tmp_path)
    one, other = ((tmp_path / f"rank_{rank}").read_text() for rank in (0, 1))
    assert one == other
    assert one == digest(read(source).state.values())
