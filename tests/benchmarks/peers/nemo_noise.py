"""NeMo's side of noisy training data, run by its own Python: the loaders of its NEST model with its YAML's augmenter."""

import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import torch
from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from omegaconf import OmegaConf
from reading import rates  # beside this file: hark is not installed here

AUGMENTER = {
    "_target_": "nemo.collections.asr.modules.ssl_modules.MultiSpeakerNoiseAugmentation", "prob": 0.5,
    "noise_ratio": 0.5, "min_r_speech": -5.0, "max_r_speech": 5.0, "min_r_noise": -5.0, "max_r_noise": 20.0,
    "min_mix_rate": 0.5, "max_mix_rate": 0.5, "min_num_segments": 1, "max_num_segments": 1, "min_num_speakers": 1,
    "max_num_speakers": 1,
}  # fmt: skip


def settings(work: dict[str, Any], kind: str, workers: int) -> dict[str, Any]:
    """What differs between its two loaders; legacy has no other batches than of so many rows."""
    common = {
        "manifest_filepath": work["manifest"], "noise_manifest": work["noise"], "batch_augmentor": AUGMENTER,
        "sample_rate": 16_000, "shuffle": True, "num_workers": workers, "pin_memory": False,
    }  # fmt: skip
    if kind == "legacy":
        return common | {"batch_size": work["rows"]}
    return common | {
        "use_lhotse": True, "batch_duration": work["batch_seconds"], "use_bucketing": True, "num_buckets": 30,
        "bucket_buffer_size": 10_000, "shuffle_buffer_size": 10_000, "seed": 0, "shard_seed": 0,
    }  # fmt: skip


def batches(work: dict[str, Any], kind: str, workers: int) -> Iterator[tuple[int, int]]:
    model = SimpleNamespace(cfg=OmegaConf.create({"sample_rate": 16_000}), global_rank=0, world_size=1)
    cfg = OmegaConf.create(settings(work, kind, workers))
    loader = EncDecDenoiseMaskedTokenPredModel._setup_dataloader_from_config(model, cfg)
    while True:
        for batch in loader:
            yield len(batch.audio_len), int(batch.noisy_audio_len.sum())


def main() -> None:
    work = json.loads(sys.argv[1])
    torch.set_num_threads(work["threads"])
    rows = [(kind, workers) for kind in ("legacy", "lhotse") for workers in work["workers"]]
    found = {
        f"{kind}, {workers}": rates(batches(work, kind, workers), workers, work["seconds"])
        for kind, workers in rows
    }
    print()  # whatever stands on the line
    print(json.dumps(found))


if __name__ == "__main__":
    main()
