"""hark's own runs as sources."""

import re
from dataclasses import replace
from pathlib import Path

import yaml
from torch import Tensor

from research import runs
from research.config import Config
from research.engine.weights import load_model, newest_model, steps
from research.errors import HarkError
from research.interop.source import Source


def find(path: Path) -> tuple[Path, int | None] | None:
    """Give the run that a path names, and the step if it names one: RUN, RUN/checkpoints, .../step_N."""
    path = path.absolute()
    step = re.fullmatch(r"step_(\d+)", path.name)
    run = path.parents[1] if step else path.parent if path.name == "checkpoints" else path
    config = run / "config.yaml"  # fairseq2's runs have one too
    if not config.is_file() or not config.read_text(errors="replace").startswith("plugins:"):
        return None
    return run, int(step[1]) if step else None


def pretraining(path: Path) -> Config | None:
    """Give the config of the pretraining that a path names, None for anything else."""
    found = find(path)
    return None if found is None or began_as(path) is not None else runs.load_config(found[0])


def began_as(path: Path) -> tuple[str, int | None] | None:
    """Give the checkpoint, and its step, that the encoder of a run of `hark classify` was before; None for another."""
    run, _ = located(path)
    upstream = yaml.safe_load((run / "config.yaml").read_text()).get("upstream")
    return None if upstream is None else (upstream["path"], upstream["step"])


def read(path: Path, step: int | None = None) -> Source:
    """Read the model of a step, of the newest good checkpoint if None.

    HarkError: no run, no such step, every checkpoint damaged.
    """
    run, _ = located(path)
    config = runs.load_config(run)
    file, step, state = weights(path, step)
    return Source(file, "hark run", config.frontend, config.encoder, state, step=step)


def tuned(path: Path, step: int | None, before: Source) -> Source:
    """Read what a classifier's training made of the encoder of `before`; HarkError as `read`, and if it was frozen."""
    file, step, state = weights(path, step)
    encoder = {name: value for name, value in state.items() if name.startswith("encoder.")}
    if not encoder:
        raise HarkError(f"{path}: its encoder was frozen, and is that of {before.path}: name that")
    frontend = {name: value for name, value in before.state.items() if name.startswith("frontend.")}
    return replace(before, path=file, kind="tuned hark run", state=frontend | encoder, entries=[], step=step)


def located(path: Path) -> tuple[Path, int | None]:
    found = find(path)
    if found is None:
        raise HarkError(f"{path}: no run is here (config.yaml is missing)")
    return found


def weights(path: Path, step: int | None) -> tuple[Path, int, dict[str, Tensor]]:
    """Give the folder of a checkpoint, its step and its tensors."""
    run, named = located(path)
    if step is not None and named not in (None, step):
        raise HarkError(f"{path}: is step {named}, not {step}")
    folder, step = run / "checkpoints", named if step is None else step
    there = steps(folder)
    if not there or step not in (None, *there):
        known = ", ".join(map(str, there)) or "none"
        wanted = "any step" if step is None else f"step {step}"
        raise HarkError(f"{folder}: no checkpoint of {wanted} is here (there are: {known})")
    if step is None:
        step, state = newest_model(folder)
    else:
        state = load_model(folder / f"step_{step}")
    return folder / f"step_{step}", step, state
