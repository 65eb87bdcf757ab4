"""s3prl's own code takes hark's checkpoints: its upstream wrapper, its featurizer, its downstream runner."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from research.contracts import Seq
from research.errors import HarkError
from research.interop import s3prl as door
from research.interop.load import load

ROOT = Path(__file__).parents[1]
NEMO = ROOT / "tests" / "fixtures" / "nemo" / "xlarge_style" / "model.nemo"
LENGTHS = (16_000, 23_457, 900)
TRIAL = """\
runner: {total_steps: 2, gradient_clipping: 1, gradient_accumulate_steps: 1, log_step: 1, eval_step: 100,
         save_step: 100, max_keep: 1, eval_dataloaders: []}
optimizer: {name: TorchOptim, torch_optim_name: Adam, lr: 1.0e-4}
downstream_expert:
  datarc: {train_batch_size: 1, eval_batch_size: 1, num_workers: 0}
  modelrc: {input_dim: 8}
"""


@pytest.fixture(scope="module")
def upstream():
    door.register()
    from s3prl.nn import S3PRLUpstream

    return S3PRLUpstream("hark_local", str(NEMO)).eval()


def signals():
    torch.manual_seed(0)
    return [torch.randn(length) / 10 for length in LENGTHS]


def test_hidden_states_are_the_layers_that_hark_computes():
    expert, audio = door.hark_local(str(NEMO), None, refresh=False, model_config=None), signals()
    with torch.no_grad():
        found = expert.eval()(audio)
    assert len(found["hidden_states"]) == 4
    mine, _ = load(NEMO)
    padded = Seq(torch.nn.utils.rnn.pad_sequence(audio, batch_first=True), torch.tensor(LENGTHS))
    with torch.no_grad():
        encoded = mine(padded)
    assert all(map(torch.equal, found["hidden_states"], encoded.layers))
    assert torch.equal(found["last_hidden_state"], encoded.last.x)
    assert expert.get_downsample_rates("hidden_states") == 1280


def test_s3prl_weighs_the_layers(upstream):
    from s3prl.nn import Featurizer

    assert (upstream.num_layers, set(upstream.hidden_sizes), set(upstream.downsample_rates)) == (
        4,
        {48},
        {1280},
    )
    padded = torch.nn.utils.rnn.pad_sequence(signals(), batch_first=True)
    with torch.no_grad():
        states, lengths = upstream(padded, torch.tensor(LENGTHS))
    featurizer = Featurizer(upstream)
    x, sizes = featurizer(states, lengths)
    assert x.shape == (3, -(-max(LENGTHS) // 1280), 48)
    assert sizes.tolist() == [-(-length // 1280) for length in LENGTHS]
    torch.testing.assert_close(x, torch.stack(states).mean(0))  # zeros weigh all layers alike
    x.square().mean().backward()
    assert featurizer.weights.grad.abs().max() > 0


def test_s3prl_trains_a_downstream_task_on_a_checkpoint(tmp_path):
    config = tmp_path / "trial.yaml"
    config.write_text(TRIAL)
    words = [
        "-m",
        "train",
        "-u",
        "hark_local",
        "-d",
        "example",
        "-c",
        str(config),
        "--device",
        "cpu",
        "-n",
        "trial",
    ]
    for checkpoint, folder in ((NEMO, "done"), (tmp_path / "none.nemo", "refused")):
        where = ["-k", str(checkpoint), "-p", str(tmp_path / folder)]
        done = subprocess.run(
            [sys.executable, "-m", "research.interop.s3prl", *words, *where],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if folder == "done":
            assert done.returncode == 0, done.stderr
            assert "Take a list of 4 features and weighted sum them" in done.stderr
            assert list((tmp_path / folder).glob("args_*.yaml"))
        else:
            assert done.returncode == 1
            assert done.stderr.splitlines()[-1] == f"hark: {checkpoint}: no such file"


def test_other_sample_rates_are_refused(monkeypatch):
    upstream, report = load(NEMO)
    upstream.sample_rate = 8000
    monkeypatch.setattr(door, "load", lambda *_: (upstream, report))
    with pytest.raises(HarkError, match="hears 8000 Hz; s3prl gives 16000 Hz only"):
        door.hark_local(str(NEMO))
