"""What became of every key of a foreign checkpoint."""

from dataclasses import dataclass, field
from enum import Enum


class Fate(Enum):
    used = "used"
    ignored = "ignored"
    missing = "missing"


@dataclass
class Entry:
    key: str
    fate: Fate
    note: str  # where it went, or why it did not


@dataclass
class Report:
    """Every option and every weight of a checkpoint, each with its fate."""

    source: str
    options: list[Entry] = field(default_factory=list)
    weights: list[Entry] = field(default_factory=list)

    def keys(self, fate: Fate) -> list[str]:
        """Weights of one fate."""
        return [entry.key for entry in self.weights if entry.fate is fate]

    def __str__(self) -> str:
        counts = ", ".join(f"{len(self.keys(fate))} {fate.value}" for fate in Fate)
        lines = [f"{self.source}: weights {counts}"]
        lines += [f"  {e.fate.value:8} {e.key}: {e.note}" for e in [*self.options, *self.weights]]
        return "\n".join(lines)
