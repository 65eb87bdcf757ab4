"""What all commands of one sweep share, and the lock that keeps them apart.

<run.folder>/sweeps/
  lock             held while anybody looks up how cells stand and submits them; says who
  NAME/sweep.json  {"name", "typed": [{"words", "time"}], "cells": {run folder: {"differs", "overrides"}}}
  NAME/orders/     what its jobs are told
  NAME/logs/       what they said
"""

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from research.errors import HarkError
from research.files import write
from research.launch.sweep.cell import Cell

RESERVED = ("code", "local", "lock")  # what else lies beside the folders of sweeps
PATIENCE, PAUSE = 60.0, 0.1  # s
HELD = (errno.EACCES, errno.EAGAIN)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folder:
    """The folder of a sweep, there or not. HarkError when it cannot have this name."""

    path: Path

    def __post_init__(self) -> None:
        if self.path.name in RESERVED or self.path.name.startswith(".") or self.path.parent.name != "sweeps":
            raise HarkError(f"{self.path}: a sweep cannot have this name; type --name with another one")

    def read(self) -> dict[str, Any]:
        """Give what sweep.json holds; no cells when no command has been typed yet."""
        file = self.path / "sweep.json"
        if not file.exists():
            return {"name": self.path.name, "typed": [], "cells": {}}
        return dict(json.loads(file.read_text()))

    def add(self, words: Sequence[str], cells: Sequence[Cell]) -> None:
        """Note a command and its legal cells. Cells of earlier commands stay; of what is in both, the last word counts.

        Whoever calls this holds the lock.
        """
        known = self.read()
        known["typed"].append({"words": list(words), "time": time.time()})
        for cell in cells:
            if cell.composed:
                known["cells"][cell.folder.name] = {
                    "differs": cell.differs,
                    "overrides": list(cell.overrides),
                }
        self.path.mkdir(parents=True, exist_ok=True)
        write(self.path / "sweep.json", json.dumps(known, indent=1))


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other commands away from the sweeps of `root`, the folder of run folders.

    It ends with the process. HarkError when another one, on any machine, does not give it back for a minute.
    """
    (root / "sweeps").mkdir(parents=True, exist_ok=True)
    path = root / "sweeps" / "lock"
    with open(path, "a+") as file:
        if not taken(file.fileno(), path):
            log.warning("%s: waiting for %s", path, path.read_text())
            until = time.monotonic() + PATIENCE
            while not taken(file.fileno(), path):
                if time.monotonic() > until:
                    raise HarkError(
                        f"{path}: is held by {path.read_text()}; wait for it, or end it, and type the command again"
                    )
                time.sleep(PAUSE)
        file.truncate(0)
        user = os.environ.get("USER", f"user {os.getuid()}")
        file.write(f"process {os.getpid()} of {user} on {socket.gethostname()}")
        file.flush()
        yield


def taken(file: int, path: Path) -> bool:
    """Take a lock unless it is held; HarkError where there are none."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise HarkError(
            f"{path}: cannot be locked ({error.strerror}); type run.folder=PATH on a file system with locks"
        ) from None
    return True
