"""One configuration of a sweep."""

from dataclasses import dataclass
from pathlib import Path

from research.compose import Composed
from research.config import Config


@dataclass(frozen=True)
class Cell:
    """What was typed for it, and what that resolves to; a cell that is refused has no config but a reason."""

    overrides: tuple[str, ...]  # all of them, each with one value
    differs: dict[str, str]  # axis -> its value here: what tells the cell from the others
    composed: Composed[Config] | None = None
    path: Path | None = None  # run folder, there or not; by signature, whatever the name
    refused: str = ""  # why the config is illegal

    @property
    def config(self) -> Config:
        """Of a legal cell."""
        assert self.composed is not None
        return self.composed.config

    @property
    def folder(self) -> Path:
        """Of a legal cell's run."""
        assert self.path is not None
        return self.path.absolute()

    @property
    def label(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.differs.items()) or "the only one"
