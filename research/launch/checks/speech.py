"""What a run will hear, as far as its lines tell."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from research.data.loader import Loaded
from research.data.plan import Floats
from research.launch.checks.job import Job


class Speech(NamedTuple):
    utterances: int  # those that are left out included
    seconds: float  # of an epoch, about
    durations: Floats  # s of what may be heard
    left_out: dict[str, int]  # reason -> utterances, of `asked`
    asked: int
    hear: Callable[[Job, int], Iterator[Loaded]]  # reads so many utterances of the job's sample, each alone
