"""Models that NeMo trained: the objective of a NEST model, the frontend and the encoder of others."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from research import registry
from research.config import Config
from research.contracts import Objective
from research.errors import HarkError
from research.interop.archive import read_archive
from research.interop.nemo_config import is_nest, target_of, to_config, to_upstream
from research.interop.nemo_weights import move_weights
from research.interop.report import Entry, Fate, Report
from research.interop.source import Source
from research.model import assemble, build_upstream, check


def read(path: Path) -> Source:
    """Read a .nemo file: all of a NEST model, preprocessor and encoder of another class that has a Conformer.

    HarkError: the file is damaged, its config asks for what hark has not, a weight is missing, unknown or misshapen.
    """
    values, state = read_archive(path)
    kind = f"NeMo {target_of(values)}"
    with naming(path):
        if is_nest(values):
            config, options, moved, weights = nest(values, state)
            return Source(path, kind, config.frontend, config.encoder, moved, [*options, *weights])
        frontend, encoder, options = to_upstream(values)
        ours = {key: value for key, value in state.items() if key.startswith(("preprocessor.", "encoder."))}
        with torch.device("meta"):
            target = build_upstream(frontend, encoder).state_dict()
        moved, weights = move_weights(target, ours, registry.build(frontend))
        rest = [Entry(key, Fate.ignored, "no part of what hark reads") for key in state if key not in ours]
    return Source(path, kind, frontend, encoder, moved, [*options, *weights, *rest])


def load(path: str | Path) -> tuple[Objective, Report]:
    """Read a .nemo file of NEST: its objective in eval mode, and what became of every option and weight.

    HarkError as `read`, and for any other class.
    """
    path = Path(path)
    registry.load_plugins()
    values, state = read_archive(path)
    with naming(path):
        config, options, moved, weights = nest(values, state)
    objective = assemble(config)
    objective.load_state_dict(moved)
    objective.eval()
    return objective, Report(str(path), options, weights)


def nest(
    values: Mapping[str, Any], state: Mapping[str, Tensor]
) -> tuple[Config, list[Entry], dict[str, Tensor], list[Entry]]:
    """Translate a NEST model: its config, and its weights under hark's names."""
    config, options = to_config(values)
    target = check(config).state_dict()  # names and shapes only
    moved, weights = move_weights(target, state, registry.build(config.frontend))
    return config, options, moved, weights


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Begin the line of every error with the file."""
    try:
        yield
    except HarkError as error:
        raise HarkError(f"{path}: {error}") from None
