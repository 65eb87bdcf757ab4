"""Files that are whole or not there."""

from pathlib import Path


def write(path: Path, data: str | bytes) -> None:
    """Write a small file whole or not at all: a reader, or a crash, never meets half of it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(data.encode() if isinstance(data, str) else data)
    part.replace(path)
