"""One process at a time, also after another was killed: the kernel lets go of a lock when its process ends."""

import fcntl
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def claim(path: Path, *, wait: bool) -> IO[str] | None:
    """Give the open file that holds the lock until it is closed; None if another process has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "w")  # noqa: SIM115  whoever asked closes it
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    return file


@contextmanager
def held(path: Path):
    file = claim(path, wait=True)
    try:
        yield
    finally:
        file.close()
