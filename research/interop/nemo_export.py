"""NEST runs as .nemo archives: the inverse of nemo_weights.py, and the file."""

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import yaml
from torch import Tensor, nn

from research import registry
from research.config import Config
from research.errors import HarkError
from research.interop.archive import CONFIG, WEIGHTS
from research.interop.nemo_values import values_of
from research.interop.nemo_weights import CONSTANTS, sources
from research.interop.rename import conformer_shape
from research.model import check


def write(config: Config, state: Mapping[str, Tensor], out: Path) -> None:
    """Write an archive from the config and all the weights of a run; whole or not at all.

    HarkError: the run is none of NEST, or NeMo has no word for one of its options.
    """
    if out.suffix != ".nemo":
        raise HarkError(f"{out}: NeMo's archives end in .nemo")
    values = values_of(config)
    frontend = registry.build(config.frontend)
    weights = {**constants(frontend), **translate(check(config), state)}
    stream = io.BytesIO()
    torch.save(weights, stream)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    with tarfile.open(part, "w") as tar:
        text = yaml.safe_dump(values, sort_keys=False).encode()
        for name, content in ((CONFIG, text), (WEIGHTS, stream.getvalue())):
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    part.replace(out)


def constants(frontend: nn.Module) -> dict[str, Tensor]:
    """Give the buffers of NeMo's preprocessor, which hark computes."""
    window, filters = (frontend.get_buffer(name) for name in CONSTANTS.values())
    return dict(zip(CONSTANTS, (window, filters.T[None].contiguous()), strict=True))


def translate(target: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give all weights under NeMo's names and in NeMo's shapes; `target` says which the model has."""
    books = len(state["quantizer.codebook"])
    given: dict[str, Tensor] = {}
    for name in target.state_dict():
        keys, value = sources(name), shaped(name, state[name].cpu(), books)
        given |= zip(keys, (part.clone() for part in value.chunk(len(keys))), strict=True)
        if name.endswith("inner_norm.running_var"):
            given[keys[0].replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    return given


def shaped(name: str, value: Tensor, books: int) -> Tensor:
    """Bring one weight into NeMo's axis order and precision."""
    special: dict[str, Callable[[], Tensor]] = {
        "quantizer.projection": lambda: value.mT.flatten(0, 1),  # (G, dim_in, C) -> (G * C, dim_in)
        "quantizer.codebook": value.double,
        "head.weight": lambda: shuffled(value, books)[..., None],
        "head.bias": lambda: shuffled(value, books),
    }
    return special[name]() if name in special else conformer_shape(name, value)


def shuffled(value: Tensor, books: int) -> Tensor:
    """(G * V, ...) -> (V * G, ...)."""
    return value.unflatten(0, (books, -1)).transpose(0, 1).flatten(0, 1)
