"""What a step is predicted to take, against what it takes."""

import gc
import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from research.compose import compose_config
from research.engine.gangs import start
from research.errors import HarkError
from research.launch.devices import DEVICES
from research.launch.live import Live
from research.launch.predict import predict
from research.launch.trial import full_batch
from research.model import assemble
from research.training.seeds import seed_all
from tests.benchmarks.predict import measure
from tests.engines import run_ranks

TINY = "encoder=fastconformer_tiny"
WAVE = (
    "encoder=transformer_tiny frontend=conv_wave objective=wav2vec2 quantizer=gumbel masking=span "
    "frontend.channels=128 objective.negatives=10"
)


def config(overrides):
    return compose_config(overrides.split()).config


@pytest.mark.parametrize(
    ("rows", "seconds", "overrides"),
    [
        (4, 3, TINY),
        (3, 4, f"{TINY} encoder.checkpoint_layers=true train.precision=bf16 train.batches=2"),
        (2, 3, WAVE),
        (4, 3, "encoder=citrinet_tiny train.precision=bf16"),
    ],
)
def test_peak_is_what_torch_measures(rows, seconds, overrides):
    cfg = config(overrides)
    gc.collect()
    measured = measure(cfg, rows, seconds, start("cpu"))
    assert predict(cfg, rows, seconds).peak == pytest.approx(measured, rel=0.05)


def heed_peak(ranks, overrides):
    """With a batch so short that weights, moments and gradients are nearly all there is."""
    cfg = config(overrides)
    measured = measure(cfg, 1, 0.5, ranks)
    assert predict(cfg, 1, 0.5).peak == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("batches", [2, 4])
def test_peak_of_a_rank_of_two_is_what_torch_measures(batches):
    run_ranks(2, heed_peak, f"quantizer.codes=64 cluster.per_node=2 train.batches={batches}")


def test_parts_add_up():
    cfg = config(f"{TINY} cluster.per_node=8 train.batches=8")
    task = assemble(cfg)
    trained = sum(p.nbytes for p in task.parameters() if p.requires_grad)
    found = predict(cfg, 2, 2)
    assert sum(found.parts.values()) == found.peak == found.needed
    assert found.parts["weights"] == sum(p.nbytes for p in task.parameters())
    assert found.parts["ddp"] == trained
    assert 2 * trained < found.parts["optimizer"] < 2 * trained + 10_000  # and a step count per tensor
    assert found.seconds is None
    alone = predict(config(TINY), 2, 2)  # where gradients are what they are, and no others stay
    assert found.peak - alone.peak == trained - (alone.parts["gradients"] - found.parts["gradients"])


def test_flops_are_those_of_real_steps():
    cfg = config(TINY)
    task, batch = assemble(cfg).train(), full_batch(cfg, 2, 4)
    flops = 0

    def convolution(grad, x, weight, *rest, out_shape):  # torch's formula ignores groups
        return sum(2 * math.prod(grad) * math.prod(weight[1:]) for each in out_shape[:2] if each)

    def product(x, weight, *rest, out_shape):
        return 2 * math.prod(x) * weight[0]

    operators = {
        torch.ops.aten.convolution_backward: convolution,
        torch.ops.mkldnn._linear_pointwise: product,
    }
    for step in (1, 2):  # masks are those of the training loop
        seed_all(cfg.run.seed, step, 0)
        with FlopCounterMode(display=False, custom_mapping=operators) as counter:
            task(batch).total.backward()
        flops += counter.get_total_flops()
    assert predict(cfg, 2, 4).flops == flops // 2


def test_no_memory_is_needed():
    found = predict(config(f"{TINY} encoder.depth=2 train.precision=bf16"), 4000, 30, "h100")
    assert found.peak > DEVICES["h100"].memory


def test_recomputing_saves_activations():
    cfg = config(f"{TINY} encoder.depth=6 train.precision=bf16")
    kept = predict(cfg, 8, 8, "a100")
    cfg.encoder.checkpoint_layers = True
    again = predict(cfg, 8, 8, "a100")
    assert again.parts["activations"] < 0.7 * kept.parts["activations"]
    assert again.flops > kept.flops


def test_devices_differ():
    cfg = config("encoder=transformer_tiny train.precision=bf16 schedule=constant")
    cpu, old, new = (predict(cfg, 4, 20, device) for device in ("cpu", "v100", "h100"))
    assert (
        new.parts["activations"] < 0.5 * old.parts["activations"]
    )  # no fused attention in bf16 before Ampere
    assert new.parts["activations"] < 0.5 * cpu.parts["activations"]  # nor any with dropout on a CPU
    assert new.peak < new.needed < new.peak * 1.05 + 1e9
    assert new.seconds < old.seconds


def test_what_cannot_be_predicted_is_refused_in_a_line():
    with pytest.raises(HarkError, match=r"no device is called 'h10'; did you mean 'h100'"):
        predict(config(TINY), 2, 2, "h10")
    with pytest.raises(HarkError, match=r"^train.compile=true: .*type train.compile=false$"):
        predict(config(f"{TINY} train.compile=true"), 2, 2)


def test_a_step_that_reads_the_device_is_refused_in_a_line(monkeypatch):
    forward = nn.LayerNorm.forward
    monkeypatch.setattr(nn.LayerNorm, "forward", lambda self, x: forward(self, x) if x.sum().item() else x)
    with pytest.raises(HarkError, match=r"^a step of 2 x 2 s cannot be predicted: RuntimeError: [^\n]*$"):
        predict(config(TINY), 2, 2)
    assert torch.autocast is torch.amp.autocast_mode.autocast  # nothing stays patched


def test_storages_count_once_while_they_live():
    with Live(["cpu"], step=512) as live:
        a = torch.zeros(100)  # 400 bytes
        assert live.total == 512
        b = a[:50].view(5, 10)
        c = torch.ones(200)  # 800 bytes
        assert live.total == 512 + 1024
        live.see(c, "weights")
        assert live.now == {"activations": 512, "weights": 1024}
        del a, c
        assert live.total == 512
        del b
        assert (live.total, live.peak) == (0, 1536)
        x = torch.zeros(64, 64, requires_grad=True)
        y = x.exp()
        assert live.total == 2 * 64 * 64 * 4
        y.sum().backward()
        del y
        assert live.total == 2 * 64 * 64 * 4  # x and its gradient; what autograd kept is gone
