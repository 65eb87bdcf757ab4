"""Reading checkpoints, without ranks. A checkpoint is a folder `step_N` that holds files of plain tensors."""

import logging
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from research.errors import HarkError

MODEL = "model/pp_00/tp_00/sdp_00.pt"  # where fairseq2 keeps a model that is not sharded

log = logging.getLogger(__name__)


class DamagedError(Exception):
    """A file of a checkpoint is missing, cut off or changed."""


def steps(folder: Path) -> list[int]:
    """Steps with a checkpoint in `folder`, the newest first."""
    found = [path.name.removeprefix("step_") for path in folder.glob("step_*") if path.is_dir()]
    return sorted((int(name) for name in found if name.isdecimal()), reverse=True)


def read(file: Path) -> dict[str, Any]:
    """Read one file after verifying its checksums, which `torch.load` does not.

    DamagedError when it cannot be what was written, HarkError when it may not be read.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            changed = archive.testzip()
        if changed is not None:
            raise DamagedError(f"{file}: {changed} has changed")  # noqa: TRY301  the rest is told the same way
        return dict(torch.load(file, map_location="cpu", weights_only=True))
    except DamagedError:
        raise
    except FileNotFoundError:
        raise DamagedError(f"{file} is missing") from None
    except PermissionError as error:
        raise HarkError(f"{file}: cannot be read ({error.strerror})") from error
    except Exception as error:  # a damaged archive can raise nearly anything
        raise DamagedError(
            f"{file}: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error


def newest_model(folder: Path) -> tuple[int, dict[str, Tensor]]:
    """Give the newest step in a folder whose model is good, and the model's tensors, on the CPU.

    Newer ones that are damaged are passed over with a warning; HarkError when none is good.
    """
    there = steps(folder)
    for step in there:
        try:
            return step, read(folder / f"step_{step}" / MODEL)
        except DamagedError as error:
            log.warning("damaged checkpoint passed over: %s", error)
    raise HarkError(
        f"{folder}: {'every checkpoint here is damaged' if there else 'no checkpoint (step_N) is here'}"
    )


def load_model(path: Path) -> dict[str, Tensor]:
    """Give the model's tensors of one checkpoint (`step_N`), or of the newest good one in a folder of them.

    HarkError when that one is damaged, or when none in the folder is good.
    """
    if not (path / "model").exists():
        return newest_model(path)[1]
    try:
        return read(path / MODEL)
    except DamagedError as error:
        raise HarkError(f"damaged checkpoint: {error}; take another step") from error
