"""Reading .nemo files: a tar of model_config.yaml and model_weights.ckpt. Nothing is unpacked to disk."""

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from research.errors import HarkError

CODE = "holds more than plain tensors, or is damaged; hark runs no code that a checkpoint brings: save tensors only"
CONFIG, WEIGHTS = "model_config.yaml", "model_weights.ckpt"


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Give the config and the weights of a .nemo file; HarkError when it is damaged or something else."""
    members = read_members(path)
    try:
        config = yaml.safe_load(members[CONFIG])
    except yaml.YAMLError as error:
        raise HarkError(f"{path}: {CONFIG} is no YAML: {str(error).splitlines()[0]}") from None
    try:
        weights = torch.load(io.BytesIO(members[WEIGHTS]), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise HarkError(f"{path}: {WEIGHTS} {CODE}") from None
    except (RuntimeError, EOFError, ValueError) as error:
        raise HarkError(f"{path}: {WEIGHTS} cannot be read: {str(error).splitlines()[0]}") from None
    for name, value in ((CONFIG, config), (WEIGHTS, weights)):
        if not isinstance(value, dict):
            raise HarkError(f"{path}: {name} holds no mapping; export the model again")
    return config, weights


def read_members(path: Path) -> dict[str, bytes]:
    """Read the two files that matter into memory."""
    if not path.is_file():
        raise HarkError(f"{path}: no such file")
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = Path(member.name).name
                if member.isfile() and name in (CONFIG, WEIGHTS):
                    stream = tar.extractfile(member)
                    found[name] = stream.read() if stream else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        line = str(error).splitlines()[0]
        raise HarkError(f"{path}: not a whole .nemo archive ({line}); copy or download it again") from None
    for name in (CONFIG, WEIGHTS):
        if name not in found:
            raise HarkError(f"{path}: {name} is missing; not a .nemo model, or cut short")
    return found
