"""NeMo's side of starting up, run by its own Python: imports, its NEST model and data from a config, one step by Lightning."""

import json
import sys

import lightning.pytorch as pl
import torch
from nemo.collections.asr.models import EncDecDenoiseMaskedTokenPredModel
from nemo_side import nest  # beside this file
from omegaconf import OmegaConf


def main() -> None:
    work = json.loads(sys.argv[1])
    torch.set_num_threads(work["threads"])
    data = {
        "manifest_filepath": work["manifest"], "noise_manifest": None, "sample_rate": 16_000, "shuffle": True,
        "batch_size": work["rows"], "num_workers": work["workers"], "pin_memory": False,
    }  # fmt: skip
    trainer = pl.Trainer(
        accelerator="cpu", devices=1, max_steps=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    cfg = OmegaConf.create(nest(work) | {"train_ds": data})
    model = EncDecDenoiseMaskedTokenPredModel(cfg=cfg, trainer=trainer)
    trainer.fit(model)
    print()  # whatever stands on the line
    print(json.dumps({"steps": trainer.global_step}))


if __name__ == "__main__":
    main()
