"""What hark asks of whatever runs jobs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from research.config import Cluster
from research.launch.sweep.order import Order


@dataclass(frozen=True)
class Live:
    """What a scheduler says of a job."""

    state: str  # pending, running, or ended
    reason: str = (
        ""  # why it waits, or how it ended, in the scheduler's words: "Resources", "NODE_FAIL", "exit 9"
    )
    where: str = ""  # node
    starts: int = 0  # times that it was started, when that is known


class Backend(Protocol):
    """Every method raises HarkError when the scheduler does not answer: then nothing is known, and nothing is done."""

    name: str  # as in config.Scheduler

    def submit(self, orders: Sequence[Path], jobs: Sequence[Order], cluster: Cluster, name: str) -> list[str]:
        """Queue one job per order file, all under `name` and with the same resources, and return at once.

        Give their ids, by which every method knows them, on any machine that sees the sweep's folder. `jobs` is what
        the files hold.
        """

    def recover(self, name: str, count: int) -> list[str] | None:
        """Give the ids of a submission called `name` that was made, but not noted down; None if it was not made.

        It changes nothing: whoever looks holds no lock, and somebody may just be submitting.
        """

    def states(self, jobs: Iterable[str]) -> dict[str, Live]:
        """What is known of jobs; those of which nothing is known any more are left out."""

    def cancel(self, jobs: Sequence[str]) -> None:
        """End them; those that have ended are passed over."""

    def logs(self, folder: Path, job: str) -> list[Path]:
        """Files that a job has written to, or will: standard output first. `folder` is the sweep's."""
