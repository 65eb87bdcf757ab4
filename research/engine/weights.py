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


def load_model(path: Path) -> dict[str, Tensor]:
    """Give the model's tensors, on the CPU, of one checkpoint (`step_N`) or of the newest good one in a folder.

    HarkError when there is none; a newer one that is damaged is passed over with a warning.
    """
    files = [path / MODEL] if (path / "model").exists() else [path / f"step_{n}" / MODEL for n in steps(path)]
    for file in files:
        try:
            return read(file)
        except DamagedError as error:
            log.warning("damaged checkpoint: %s", error)
    raise HarkError(
        f"{path}: {'every checkpoint here is damaged' if files else 'no checkpoint (step_N) is here'}"
    )
