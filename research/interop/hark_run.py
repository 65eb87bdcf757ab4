"""hark's own runs as sources."""

import re
from pathlib import Path

from research import runs
from research.engine.weights import load_model, newest_model, steps
from research.errors import HarkError
from research.interop.source import Source


def find(path: Path) -> tuple[Path, int | None] | None:
    """Give the run that a path names, and the step if it names one: RUN, RUN/checkpoints, .../step_N."""
    path = path.absolute()
    step = re.fullmatch(r"step_(\d+)", path.name)
    parent = path.parents[1] if step else path.parent if path.name == "checkpoints" else path
    config = parent / "config.yaml"
    if not config.is_file() or not config.read_text(errors="replace").startswith(
        "plugins:"
    ):  # fairseq2 has one too
        return None
    return parent, int(step[1]) if step else None


def read(path: Path, step: int | None = None) -> Source:
    """Read the model of a step, of the newest good checkpoint if None.

    HarkError: no run, no such step, every checkpoint damaged.
    """
    found = find(path)
    if found is None:
        raise HarkError(f"{path}: no run is here (config.yaml is missing)")
    run, named = found
    if step is not None and named not in (None, step):
        raise HarkError(f"{path}: is step {named}, not {step}")
    config, folder = runs.load_config(run), run / "checkpoints"
    step, there = named if step is None else step, steps(folder)
    if not there or step not in (None, *there):
        known = ", ".join(map(str, there)) or "none"
        wanted = "any step" if step is None else f"step {step}"
        raise HarkError(f"{folder}: no checkpoint of {wanted} is here (there are: {known})")
    if step is None:
        step, state = newest_model(folder)
    else:
        state = load_model(folder / f"step_{step}")
    return Source(folder / f"step_{step}", "hark run", config.frontend, config.encoder, state, step=step)
