"""The benchmarks of training steps count what they say, and run on any machine."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from research.analysis.style import save
from research.launch.predict import predict
from tests.benchmarks import limits
from tests.benchmarks.curves import CURVES, Taken, line, summary
from tests.benchmarks.flops import needed
from tests.benchmarks.picture import draw
from tests.benchmarks.work import compose

HERE = Path(__file__).parent / "benchmarks"


def ran(name, *words):
    done = subprocess.run(
        [sys.executable, HERE / name, *words], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(text) for text in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "most"),
    [
        ("encoder.positions=rope", 1.02),
        (
            "encoder.positions=none encoder.kernel=15 encoder.ff_mult=2 quantizer.books=2 encoder.stride=4",
            1.02,
        ),
        ("encoder.depth=8", 1.1),  # and distances that no frame has to another
    ],
)
def test_needed_flops_are_those_that_a_step_computes(words, most):
    cfg = compose("tiny", "fp32", [*words.split(), "quantizer.codes=512", "encoder.dim=128"])
    found, how = needed(cfg, 3, 10.0)
    assert how == "analytic"
    mel = 2 * 3 * 1000 * (512 // 2 + 1) * 80  # filters, which come before the loss's own products
    assert 0.99 * found < predict(cfg, 3, 10.0).flops - mel < most * found


def test_other_methods_are_counted_without_recomputing():
    plain = needed(compose("tiny", "fp32", [], "hubert"), 2, 4.0)
    again = needed(compose("tiny", "fp32", ["encoder.checkpoint_layers=true"], "hubert"), 2, 4.0)
    assert plain == again
    assert plain[1] == "counted"


def test_a_step_is_set_against_the_device():
    (told,) = ran(
        "step.py", "--size", "tiny", "--batch", "2", "--seconds", "2", "--steps", "1", "--method", "w2v_bert"
    )
    top, digit = told["matmul_gflop_per_s"], 0.05  # GFLOP/s that rounding takes
    assert told["fraction"] == pytest.approx(told["gflop_per_s"] / top, abs=1e-3 + digit / top)
    assert {"mel", "subsampling", "layers", "quantizer", "head", "backward", "optimizer", "rest"} <= set(
        told["parts"]
    )
    rate = told["needed_gflop"] / told["step_s"]
    assert told["gflop_per_s"] == pytest.approx(rate, abs=0.3 * rate + digit)
    assert told["torch"] == torch.__version__


def test_everything_for_a_gpu_runs_without_one(tmp_path):
    told = ran("gpu.py", "--out", str(tmp_path), "--device", "cpu", "--tiny")
    assert [json.loads(text) for text in (tmp_path / "gpu.jsonl").read_text().splitlines()] == told
    assert {each["benchmark"] for each in told} == {"gpu limits", "gpu step", "gpu attention", "gpu mel"}
    assert not [each for each in told if "failed" in each or "left_out" in each]
    steps = [each for each in told if each["benchmark"] == "gpu step"]
    top = limits.best(told[0]["bf16"])
    for each in steps:
        assert each["batch"] == 2
        assert each["needed_gflop"] > 0
        share = each["needed_gflop"] / each["step_s"] / top
        off = 0.05 / each["needed_gflop"]  # both are rounded, this one to 0.1 GFLOP
        assert each["mfu_matmul"] == pytest.approx(share, rel=0, abs=off * share + 6e-4)


def test_each_size_has_its_parts():
    told = ran("parts.py", "--size", "tiny", "--batch", "2", "--seconds", "2", "--repeats", "1")
    assert [each["part"] for each in told] == ["mel", "augmentation", "quantizer", "prediction", "optimizer"]
    assert all(each["least_ms"] <= each["ms"] <= each["most_ms"] for each in told)


def taken(kind, power):
    """Points that take as long as x to a power, some rounds longer than others."""
    made = []
    for point in CURVES[kind]:
        each = object.__new__(Taken)
        each.point, each.x = point, point.x
        each.rounds = [factor * point.x**power for factor in (1.0, 1.1, 0.9)]
        made.append(each)
    return made


def test_growth_is_the_power_that_time_follows():
    found = summary("length", taken("length", 1.5))
    assert found["exponent"] == found["end"] == pytest.approx([1.5, 1.5, 1.5])
    assert found["ratio"] == pytest.approx([20**1.5] * 3, abs=1e-2)


def test_curves_are_drawn(tmp_path):
    points = [
        line(kind, each) | {"dtype": "fp32"} for kind in ("batch", "codes") for each in taken(kind, 1.0)
    ]
    figure = draw([*points, summary("batch", taken("batch", 1.0)) | {"dtype": "fp32"}])
    assert len(figure.axes) == 2
    assert save(figure, tmp_path / "curves.png").stat().st_size > 10_000


def test_devices_are_known_by_their_drivers_names(monkeypatch):
    place = SimpleNamespace(type="cuda")
    for name, rate in {"NVIDIA H100 80GB HBM3": 989e3, "NVIDIA H100 PCIe": 756e3, "NVIDIA L4": 121e3}.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda _, name=name: name)
        assert limits.sheet_gflop_per_s(place, "bf16") == pytest.approx(rate)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla P100")
    assert limits.sheet_gflop_per_s(place, "bf16") is None
