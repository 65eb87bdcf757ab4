"""Files that outlive a power cut, for fairseq2 to write checkpoints with."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from fairseq2.io import TensorFileDumper, TensorFileDumpOptions, TensorFileLoader, TensorFileLoadOptions

from research.engine.weights import read


class Files(TensorFileLoader, TensorFileDumper):
    """Files that are on the disk when `dump` returns, and are verified by `load`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def dump(
        self, data: Mapping[str, object], file: Path, options: TensorFileDumpOptions | None = None
    ) -> None:
        try:
            with file.open("wb") as stream:
                torch.save(dict(data), stream)
        except RuntimeError as error:  # how torch tells that the stream failed
            raise (error.__context__ or error) from None
        sync(file)
        for parent in file.parents:  # a new file is lost with the folder entry that names it
            sync(parent)
            if parent == self.folder:
                break

    def load(self, file: Path, options: TensorFileLoadOptions | None = None) -> dict[str, object]:
        return read(file)


def sync(path: Path) -> None:
    """Return when a file or a folder is on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
