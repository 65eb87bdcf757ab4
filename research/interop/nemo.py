"""NEST models that NeMo trained, as hark objectives."""

from pathlib import Path

from research import registry
from research.contracts import Objective
from research.errors import HarkError
from research.interop.archive import read_archive
from research.interop.nemo_config import to_config
from research.interop.nemo_weights import move_weights
from research.interop.report import Report
from research.model import assemble


def load(path: str | Path) -> tuple[Objective, Report]:
    """Read a .nemo file: its objective in eval mode, and what became of every option and weight.

    Raises HarkError when the file is damaged, when its config asks for what hark has not, and when a weight is
    missing, unknown or of another shape.
    """
    path = Path(path)
    registry.load_plugins()
    values, state = read_archive(path)
    try:
        config, options = to_config(values)
        report = Report(str(path), options)
        objective = assemble(config)
        move_weights(objective, state, report)
    except HarkError as error:
        raise HarkError(f"{path}: {error}") from None
    objective.eval()
    return objective, report
