"""Probes on the way of a run: when they are put, and where what they found is written. Those above know how."""

from pathlib import Path
from typing import Protocol

from research import runs
from research.engine.checkpoint import Checkpoints
from research.engine.gangs import Ranks
from research.training.rows import PROBE
from research.training.tracking import Tracker

Numbers = dict[str, float]


class Prober(Protocol):
    """Puts probes to checkpoints. Only rank 0 is asked, but for `due`."""

    def due(self, step: int) -> bool:
        """Whether probes are put after `step` steps: there has to be a checkpoint."""

    def ask(self) -> None:
        """Put probes to every checkpoint that is due, or see to it that they are. What fails is told in one line."""

    def needed(self) -> set[int]:
        """Steps whose checkpoints are still to be asked."""

    def found(self) -> dict[int, Numbers]:
        """Step -> what its probes found."""

    def undo(self, step: int) -> None:
        """Forget what was found after a step: the run has gone back to it."""


class Probes:
    """The probes of a training; all ranks make it and call its methods together. Without a prober it does nothing."""

    def __init__(
        self, prober: Prober | None, path: Path, checkpoints: Checkpoints, ranks: Ranks, tracker: Tracker
    ) -> None:
        self.prober, self.path, self.ranks = prober, path, ranks
        self.checkpoints, self.tracker = checkpoints, tracker

    def due(self, step: int) -> bool:
        return self.prober is not None and self.prober.due(step)

    def needed(self) -> set[int]:
        return self.prober.needed() if self.prober and self.ranks.rank == 0 else set()

    def ask(self, step: int) -> None:
        """Once the last checkpoint is whole, put what is due of the first `step` steps; the other ranks wait."""
        if self.prober is None:
            return
        self.checkpoints.wait()
        if self.ranks.rank == 0:
            with self.tracker.aside():
                self.prober.ask()
        self.ranks.barrier()
        self.book(step)

    def book(self, step: int) -> None:
        """Log what was found of the first `step` steps and is not logged yet."""
        if self.prober is None or self.ranks.rank:
            return
        for number, values in unbooked(self.path, self.prober.found(), step):
            self.tracker.record(number, PROBE, values)
            told = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
            self.tracker.say(f"step {number}  {PROBE} {told}")

    def undo(self, step: int) -> None:
        if self.prober is not None and self.ranks.rank == 0:
            self.prober.undo(step)


def unbooked(path: Path, found: dict[int, Numbers], step: float) -> list[tuple[int, Numbers]]:
    """Give what probes found up to a step and metrics.jsonl lacks, the first step first."""
    records = runs.read_jsonl(path / "metrics.jsonl") if found else ()
    there = {record["step"] for record in records if record["split"] == PROBE}
    return sorted(
        (number, values) for number, values in found.items() if number <= step and number not in there
    )
