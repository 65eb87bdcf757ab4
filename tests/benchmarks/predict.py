"""Predict the peak memory of training steps and measure it; print one JSON line for each configuration.

    python tests/benchmarks/predict.py                     # all configurations, on the CPU
    python tests/benchmarks/predict.py --device h100       # on that GPU
    python tests/benchmarks/predict.py --only 6,2 encoder=fastconformer_tiny

`measured` are bytes of live tensors at the worst moment of steps 2 and 3: on the CPU the sum over torch's own record of every
allocation (profiler), on CUDA `torch.cuda.max_memory_allocated`. `error` is (predicted - measured) / measured. Each
configuration is measured in a process of its own.
"""

import argparse
import json
import subprocess
import sys
import time
from itertools import repeat
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from research.compose import compose_config
from research.config import Config
from research.contracts import Stat
from research.engine.gangs import Ranks, start
from research.engine.parallel import wrap
from research.launch.predict import predict
from research.launch.trial import full_batch
from research.model import assemble
from research.registry import build
from research.training import step as training
from research.training.data import Fed
from research.training.optimizer import adamw
from research.training.stats import StatBag

STEPS = 3
WAVE = "frontend=conv_wave objective=wav2vec2 quantizer=gumbel masking=span"
SETTINGS = (  # rows, seconds, overrides
    (8, 4, "encoder=fastconformer_tiny"),
    (4, 20, "encoder=fastconformer_tiny train.batches=2 train.precision=bf16"),
    (8, 8, "encoder=fastconformer_small"),
    (8, 8, "encoder=fastconformer_small train.precision=bf16"),
    (4, 12, "encoder=fastconformer_medium"),
    (4, 12, "encoder=fastconformer_medium encoder.checkpoint_layers=true"),
    (4, 12, "encoder=fastconformer_medium encoder.checkpoint_layers=true train.precision=bf16"),
    (4, 8, "encoder=fastconformer_large train.precision=bf16"),
    (4, 6, "encoder=conformer_tiny objective=best_rq quantizer=best_rq"),
    (2, 6, "encoder=conformer_large encoder.depth=6 train.batches=2 train.precision=bf16"),
    (2, 6, f"encoder=transformer_base {WAVE}"),
    (2, 6, f"encoder=transformer_base {WAVE} train.precision=bf16"),
    (4, 6, "encoder=transformer_tiny frontend=conv_wave"),
    (2, 6, "encoder=wavlm_base encoder.depth=3 encoder.checkpoint_layers=true frontend=conv_wave_layer"),
    (4, 8, "objective=w2v_bert encoder=fastconformer_small encoder.stride=4 quantizer=gumbel masking=span"),
    (2, 8, "encoder=w2v_bert_conformer encoder.depth=3 frontend=fbank"),
    (4, 8, "encoder=w2v_bert_conformer_tiny frontend=fbank objective=best_rq train.precision=bf16"),
    (4, 12, "encoder=fastconformer_small encoder.context=[32,32] encoder.dropout_att=0 encoder.depth=4"),
    (8, 6, "encoder=citrinet_tiny train.batches=2"),
)


def measure(cfg: Config, rows: int, seconds: float, ranks: Ranks) -> int:
    """Take real steps; give the peak of what this rank's tensors take, in bytes."""
    if ranks.device.type == "cuda":
        return steps(cfg, rows, seconds, ranks)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        steps(cfg, rows, seconds, ranks)
    assert record.profiler is not None
    events = sorted(record.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    second = next(event.start_ns() for event in events if event.name() == "second step")
    live = peak = 0
    for event in events:
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live) if event.start_ns() > second else peak
    return peak


def steps(cfg: Config, rows: int, seconds: float, ranks: Ranks) -> int:
    cuda = ranks.device.type == "cuda"
    task = assemble(cfg).to(ranks.device).train()
    augment = build(cfg.augmentation).to(ranks.device)
    student = training.Student(task, wrap(task, ranks), augment, adamw(task, cfg.optimizer), ranks, cfg)
    fed = repeat(Fed(full_batch(cfg, rows, seconds), rows * seconds, Stat(torch.zeros(()))))
    bag = StatBag(ranks.device)
    training.train_step(student, fed, 0, bag, stop=False)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    with record_function("second step"):
        training.train_step(student, fed, 1, bag, stop=False)
    for step in range(2, STEPS):
        training.train_step(student, fed, step, bag, stop=False)
    return torch.cuda.max_memory_allocated() if cuda else 0


def compare(rows: int, seconds: float, overrides: list[str], device: str) -> dict[str, Any]:
    cfg = compose_config(overrides).config
    before = time.monotonic()
    predicted = predict(cfg, rows, seconds, device)
    took = time.monotonic() - before
    measured = measure(cfg, rows, seconds, start("cpu" if device == "cpu" else "cuda"))
    return {
        "rows": rows,
        "seconds": seconds,
        "overrides": " ".join(overrides),
        "predicted_mb": round(predicted.peak / 1e6, 1),
        "measured_mb": round(measured / 1e6, 1),
        "error": round(predicted.peak / measured - 1, 4),
        "predict_s": round(took, 1),
        "parts_mb": {name: round(size / 1e6, 1) for name, size in predicted.parts.items()},
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="of research/launch/devices.py")
    parser.add_argument(
        "--only", default="", metavar="ROWS,SECONDS", help="one configuration, in this process"
    )
    parser.add_argument("overrides", nargs="*", help="of that one, as for hark train")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.only:
        rows, seconds = args.only.split(",")
        print(json.dumps(compare(int(rows), float(seconds), args.overrides, args.device)), flush=True)
        return
    for rows, seconds, overrides in SETTINGS:
        words = ["--device", args.device, "--only", f"{rows},{seconds}", *overrides.split()]
        subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
