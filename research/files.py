"""Files that are whole or not there, and lines that are."""

import fcntl
import os
from contextlib import suppress
from pathlib import Path


def write(path: Path, data: str | bytes) -> None:
    """Write a small file whole or not at all: a reader, or a crash, never meets half of it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data.encode() if isinstance(data, str) else data)
    part.replace(path)


def append(path: Path, line: str) -> None:
    """Add a line to a file; it is on the disk when this returns.

    Processes on several machines may do so at once, and may be killed while they do: what one of them left unfinished
    stays on a line of its own.
    """
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        with suppress(OSError):  # a file system without locks: appending keeps processes of one machine apart
            fcntl.lockf(file, fcntl.LOCK_EX)
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        data = ("\n" * torn + line + "\n").encode()
        while data:
            data = data[os.write(file, data) :]
        os.fsync(file)
    finally:
        os.close(file)
