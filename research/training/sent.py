"""What W&B has been given of a run: read back from the files that it keeps in the run's folder."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from research.training.rows import PROBES

ONLINE, OFFLINE = "run-*", "offline-run-*"  # folders in RUN/wandb, one for every start


@dataclass
class Sent:
    """`step` is the last one of which all is there; -1: none is."""

    step: int = -1
    summary: dict[str, Any] = field(default_factory=dict)
    artifact: bool = False
    probes: set[int] = field(default_factory=set)  # steps of which it has what probes on the way found


def files(run: Path, *, kind: str) -> list[Path]:
    """W&B's files of a run that was online or offline, the oldest first."""
    return sorted((run / "wandb").glob(f"{kind}/run-{run.name}.wandb"))


def synced(file: Path) -> bool:
    """Whether all of it has reached the server: `wandb sync` leaves the same mark."""
    return file.with_suffix(".wandb.synced").exists()


def begun(file: Path) -> bool:
    """Whether some of it, but not all, may have reached the server: a second `wandb sync` would send that again."""
    return file.with_suffix(".wandb.syncstate").exists() and not synced(file)


def mark(file: Path) -> None:
    file.with_suffix(".wandb.synced").touch()


def sent(run: Path) -> Sent:
    """Read what was written, with or without a network. RuntimeError when a file cannot be read."""
    found = Sent()
    for file in files(run, kind=ONLINE) + files(run, kind=OFFLINE):
        for record in records(file):
            if record["type"] == "history":
                found.step = max(found.step, record["history"]["step"].get("num", 0))
            elif record["type"] == "summary":
                found.summary |= record["summary"].get("update", {})
            found.artifact |= record["type"] == "artifact"
    found.probes = set(found.summary.get(PROBES, ()))
    return found


def records(file: Path) -> Iterator[dict[str, Any]]:
    """Read W&B's file with its own reader; a record that a kill cut off is left out."""
    from wandb.util import get_core_path  # noqa: PLC0415  slow to import

    command = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:  # noqa: S603
        assert reader.stdout is not None
        assert reader.stderr is not None
        yield from map(json.loads, reader.stdout)
        said = reader.stderr.read()
    if reader.returncode:
        raise RuntimeError(f"{file}: {said.strip()}")
