"""How far a run is."""

from dataclasses import dataclass, field
from typing import Any

from research.training.data import State
from research.training.health.state import Vitals


@dataclass
class Progress:
    """All of a run's state that is not in the model or the optimizer."""

    step: int = 0
    skipped: int = 0  # steps with a non-finite loss or gradient
    skipped_in_a_row: int = 0
    wall: float = 0.0  # seconds, over all restarts
    audio: float = 0.0  # seconds of speech seen
    data: State = field(default_factory=list)  # where reading goes on
    heard: dict[str, int] = field(default_factory=dict)  # utterances, of data.loader.COUNTED
    vitals: Vitals = field(default_factory=Vitals)

    @classmethod
    def of(cls, values: dict[str, Any]) -> "Progress":
        """What a checkpoint kept of one."""
        return cls(**values | {"vitals": Vitals(**values.get("vitals", {}))})
