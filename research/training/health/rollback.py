"""A rollback outlives the process that decided it: the note that it left is part of a run's progress."""

from pathlib import Path

from research.training.health import record
from research.training.progress import Progress


def replay(run: Path, progress: Progress) -> None:
    """Do to the progress of a checkpoint what rollbacks to it did that were decided after it was saved."""
    vitals = progress.vitals
    for event in record.rollbacks(run)[vitals.rollbacks :]:
        if event["to"] == progress.step:
            vitals.go_back(event["lr_factor"])
