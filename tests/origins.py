"""Small checkpoints of several origins, for the tests of `load` and `init=`."""

import io
import tarfile
from pathlib import Path

import torch
import yaml

from research import runs
from research.compose import compose_config
from research.engine.weights import MODEL
from research.model import assemble

NEMO = Path(__file__).parent / "fixtures" / "nemo" / "large_style" / "model.nemo"
TINY = (
    "encoder=fastconformer_tiny",
    "quantizer.codes=64",
    "augmentation=none",
    "log.wandb=disabled",
    "run.device=cpu",
)


def make_run(folder, *overrides, steps=(1,)):
    """A run folder with untrained checkpoints, in which every tensor is moved by its step."""
    composed = compose_config([*TINY, f"run.folder={folder}", *overrides])
    path = runs.create(composed.config, composed.choices, composed.overrides)
    state = assemble(composed.config).state_dict()
    for step in steps:
        file = path / "checkpoints" / f"step_{step}" / MODEL
        file.parent.mkdir(parents=True)
        torch.save({name: value + step for name, value in state.items()}, file)
    return path


def members(path=NEMO):
    with tarfile.open(path) as tar:
        return {Path(m.name).name: tar.extractfile(m).read() for m in tar if m.isfile()}


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def recogniser(path):
    """A .nemo file of another class: the same preprocessor and encoder, and a CTC decoder."""
    files = members()
    config = yaml.safe_load(files["model_config.yaml"])
    kept = {key: config[key] for key in ("preprocessor", "encoder", "spec_augment")}
    target = "nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE"
    config = kept | {"target": target, "decoder": {"_target_": "nemo.collections.asr.modules.ConvASRDecoder"}}
    state = torch.load(io.BytesIO(files["model_weights.ckpt"]), weights_only=True)
    state = {key: value for key, value in state.items() if key.startswith(("encoder.", "preprocessor."))}
    state["decoder.decoder_layers.0.weight"] = torch.zeros(30, 64, 1)
    stream = io.BytesIO()
    torch.save(state, stream)
    content = {"model_config.yaml": yaml.safe_dump(config).encode(), "model_weights.ckpt": stream.getvalue()}
    return write_tar(path, content)
