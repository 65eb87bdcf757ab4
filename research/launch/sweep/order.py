"""What a job is told to do: a file that it reads, so that nothing typed or edited later can change it."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from research.files import write


@dataclass(frozen=True)
class Order:
    """A training, or probes of one. Paths are absolute: a job may start in another folder."""

    run: str  # run folder
    sweep: str  # its name
    folder: str  # of the sweep
    code: str  # snapshot that the job imports
    cwd: str  # where the user typed the command: relative paths of the config start here
    kind: str = "train"  # or probe, or probe@STEP: on the way
    values: dict[str, Any] = field(default_factory=dict)  # the resolved config, with `plugins`: kind -> name
    overrides: list[str] = field(default_factory=list)  # what was typed for this cell
    probe: list[str] = field(default_factory=list)  # words of `hark probe` after the run folder
    after: str = ""  # id of a job that has to succeed first

    def save(self, path: Path) -> None:
        write(path, json.dumps(asdict(self), indent=1))


def read_order(path: Path) -> Order:
    return Order(**json.loads(path.read_text()))
