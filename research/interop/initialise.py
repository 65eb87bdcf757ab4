"""`init=`: first weights from other checkpoints.

`init=PATH`, or a list of sources of which a later one wins, each a path or a mapping with the keys of `Origin`:

  init=[{path: a.nemo, include: [encoder.*], exclude: [encoder.layers.3.*]}, {path: runs/x, rename: {encoder: teacher}}]

The option is part of a run's signature as it is typed: a path stands for what lies there, as that of a manifest does.
Where that may change, name the step; init.txt in the run's folder holds the SHA-256 of what was copied, and the fate
of every tensor.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from research import registry
from research.config import Config
from research.contracts import Task
from research.files import write
from research.interop.copying import Copy, match
from research.interop.load import read
from research.interop.origin import origins
from research.interop.source import Source

PARTS = ("frontend", "encoder")


def initialise(model: Task, cfg: Config, folder: Path | None = None) -> None:
    """Copy what `cfg.init` names into `model`; with a folder, write init.txt there and print a line for each source.

    HarkError, with nothing copied: a source cannot be read, a pattern or `rename` fits no name, a tensor has another
    shape, or more than the allowed share is missing.
    """
    copies: list[Copy] = []
    for origin in origins(cfg.init):
        source = read(origin.path, origin.step)
        copies.append(match(origin, source, model.state_dict()))
        record(folder, copies, cfg)  # first, so that it tells of a failure too
        copies[-1].require(advice(copies[-1].failed, source, cfg))
        if folder is not None:
            print(copies[-1].summary)
    values = {name: value for each in copies for name, value in each.values.items()}
    model.load_state_dict(values, strict=False)
    if copies:
        model.initialised(values)
        record(folder, copies, cfg, f"SHA-256 of what was copied: {digest(values)}")


def record(folder: Path | None, copies: Iterable[Copy], cfg: Config, end: str = "") -> None:
    if folder is not None:
        said = [line for each in copies for line in (str(each), *differences(each.source, cfg))]
        write(folder / "init.txt", "\n".join([*said, end]).rstrip() + "\n")


def differences(source: Source, cfg: Config) -> list[str]:
    """Options of frontend and encoder in which the run is not what the weights were trained in."""
    found = [each for kind in PARTS for each in differing(kind, source, cfg)]
    return [f"  differs     {key}: {one} there, {other} here" for key, one, other in found]


def differing(kind: str, source: Source, cfg: Config) -> Iterator[tuple[str, Any, Any]]:
    theirs, ours = getattr(source, kind), getattr(cfg, kind)
    if type(theirs) is not type(ours):
        yield kind, registry.name_of(theirs), registry.name_of(ours)
        return
    for item in fields(ours):
        one, other = getattr(theirs, item.name), getattr(ours, item.name)
        if one != other and not item.metadata.get("volatile"):
            yield f"{kind}.{item.name}", one, other


def advice(failed: Iterable[str], source: Source, cfg: Config) -> str:
    """Say what to type for a run whose frontend or encoder is that of the checkpoint."""
    kinds = [kind for kind in PARTS if any(name.startswith(f"{kind}.") for name in failed)]
    others = [kind for kind in kinds if type(getattr(source, kind)) is not type(getattr(cfg, kind))]
    if others:
        words = [f"{kind}={registry.name_of(getattr(source, kind))}" for kind in others]
        return f"that is a model with {' and '.join(words)}: type that, or "
    sizes = [
        f"{key}={one}" for kind in kinds for key, one, _ in differing(kind, source, cfg) if type(one) is int
    ]
    return f"type {' '.join(sizes)} as there, or " if sizes else ""


def digest(values: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, value in sorted(values.items()):
        found.update(name.encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
