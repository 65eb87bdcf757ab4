"""What a Hugging Face folder holds: config.json, preprocessor_config.json and weights, read and written as files."""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from research import files
from research.errors import HarkError
from research.interop.archive import CODE

CONFIG, PROCESSOR, WEIGHTS, PICKLED = (
    "config.json",
    "preprocessor_config.json",
    "model.safetensors",
    "pytorch_model.bin",
)


@dataclass
class Contents:
    """A model as Hugging Face's files tell it."""

    config: dict[str, Any]
    processor: dict[str, Any] = field(default_factory=dict)  # empty where there is no file of it
    state: dict[str, Tensor] = field(default_factory=dict)


def find(path: Path) -> bool:
    """Whether a path is such a folder."""
    return (path / CONFIG).is_file()


def read_contents(folder: Path) -> Contents:
    """Read everything onto the CPU, weights in fp32; HarkError when a file is missing or damaged."""
    processor = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    config = read_json(folder / CONFIG)
    state: dict[str, Tensor] = {}
    for file in weight_files(folder):
        state |= read_weights(file)
    return Contents(config, processor, {key: value.float() for key, value in state.items()})


def write_contents(folder: Path, contents: Contents) -> None:
    """Write a new folder, config.json last: nobody opens half of one. HarkError when a model is there already."""
    if find(folder):
        raise HarkError(f"{folder}: holds a model already; choose another folder, or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in contents.state.items()}
    files.write(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    if contents.processor:
        files.write(folder / PROCESSOR, json.dumps(contents.processor, indent=2) + "\n")
    files.write(folder / CONFIG, json.dumps(contents.config, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise HarkError(f"{path}: no such file; give a folder that save_pretrained wrote")
    try:
        values = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise HarkError(f"{path}: is no JSON ({error}); copy or download it again") from None
    if not isinstance(values, dict):
        raise HarkError(f"{path}: holds no mapping; copy or download it again")
    return values


def weight_files(folder: Path) -> list[Path]:
    """Give the files of weights, safetensors before pickles, whole or in the shards that an index lists."""
    for name in (WEIGHTS, PICKLED):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            shards = read_json(index).get("weight_map")
            if not isinstance(shards, dict):
                raise HarkError(f"{index}: has no weight_map; copy or download it again")
            return [folder / Path(shard).name for shard in sorted(set(shards.values()))]
    raise HarkError(f"{folder}: no weights are here ({WEIGHTS} or {PICKLED}, or an index of shards)")


def read_weights(file: Path) -> dict[str, Tensor]:
    """Read one file of tensors; nothing in a pickle is run."""
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError:
        raise HarkError(f"{file}: {CODE}") from None
    except FileNotFoundError:
        raise HarkError(f"{file}: this shard is missing; copy or download the folder again") from None
    except (
        SafetensorError,
        RuntimeError,
        EOFError,
        ValueError,
        TypeError,
        OSError,
    ) as error:
        raise HarkError(f"{file}: cannot be read: {str(error).splitlines()[0]}") from None
