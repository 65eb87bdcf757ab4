"""One door for all checkpoints: whatever wrote it, an `Upstream` comes out."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from research import registry
from research.errors import HarkError
from research.interop import fairseq2, hark_run, huggingface, nemo, state
from research.interop.report import Entry, Fate, Report
from research.interop.source import Source
from research.model import Upstream, build_upstream

OPENS = (
    "a hark run or a step_N folder in it, a file of `hark export --to state`, a .nemo file, "
    "a Hugging Face folder (config.json), the name of a fairseq2 card or a .pt beside its card"
)


def read(path: str | Path, step: int | None = None) -> Source:
    """Read a checkpoint without building its model; `step` picks one of a hark run, the newest good one if None.

    HarkError: nothing is there, it is none of what hark opens, it is damaged, or it holds what hark has not.
    """
    registry.load_plugins()
    path = Path(path)
    if hark_run.find(path):
        before = hark_run.began_as(path)
        return hark_run.tuned(path, step, read(*before)) if before else hark_run.read(path, step)
    if step is not None:
        raise HarkError(f"{path}: is no hark run, so it has no step {step}")
    if path.suffix == ".nemo":
        return nemo.read(path)
    if (path / "config.json").is_file():
        return huggingface.read(path)
    if state.find(path):
        return state.read(path)
    if fairseq2.find(path):
        return fairseq2.read(path)
    what = "is none of what hark opens" if path.exists() else "nothing is here"
    raise HarkError(f"{path}: {what}; hark opens {OPENS}")


def load(path: str | Path, step: int | None = None) -> tuple[Upstream, Report]:
    """Give the frontend and the encoder of a checkpoint, in eval mode on the CPU, and what became of every key.

    HarkError: as `read`; a weight that the encoder needs is missing, of another shape, or has no place in it.
    """
    source = read(path, step)
    return open_upstream(source), Report(str(source.path), weights=[*source.entries, *beside(source)])


def open_upstream(source: Source) -> Upstream:
    """Build what a source describes and fill in its weights, in eval mode; HarkError unless all fit."""
    with torch.random.fork_rng(devices=[]):  # opening a checkpoint draws nothing
        upstream = build_upstream(source.frontend, source.encoder)
    target = upstream.state_dict()
    for name, why in misfits(target, source.state):
        raise HarkError(f"{source.path}: {source.kind}: {name}: {why}")
    upstream.load_state_dict({name: source.state[name] for name in target})
    return upstream.eval()


def misfits(target: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    for name, wanted in target.items():
        if name not in state:
            yield name, "this weight is missing"
        elif state[name].shape != wanted.shape:
            yield name, f"{tuple(state[name].shape)} where its config asks for {tuple(wanted.shape)}"
    for name in state:
        if belongs(name) and name not in target:
            yield name, "its config has no place for this weight"


def beside(source: Source) -> list[Entry]:
    """What hark's own files hold, and what no upstream takes."""
    own = [] if source.entries else [Entry(name, Fate.used, name) for name in source.state if belongs(name)]
    other = [name for name in source.state if not belongs(name)]
    return own + [Entry(name, Fate.ignored, "neither of the frontend nor of the encoder") for name in other]


def belongs(name: str) -> bool:
    return name.startswith(("frontend.", "encoder."))
