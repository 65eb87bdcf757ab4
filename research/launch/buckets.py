"""The buckets that a run batches by, as far as they can be told without opening its audio."""

import numpy as np

from research.config import Data, Streams
from research.data import bins
from research.data.plan import by_budget
from research.data.streams.batches import limits
from research.errors import HarkError
from research.launch.bins_input import hear


def bounds_of(data: Data) -> list[float]:
    """Upper bounds (s), rising: `data.bounds`, else the `data.buckets` that pad least. They cover all of `data.train`.

    HarkError: bounds do not rise or do not cover the longest utterance, or there is nothing to tell them from.
    """
    if not data.train and not data.bounds:
        raise HarkError(
            "nothing says what the buckets are: type data.train=[path/to/train.jsonl], or data.bins=FILE with a file "
            "of `hark bins`"
        )
    if not data.train:
        return checked(np.array(data.bounds[-1:]), data)
    heard = hear(data)
    if data.bounds:
        return checked(np.concatenate([part.durations for part in heard.parts]), data)
    cells = bins.histogram(heard.parts)
    return bins.written(bins.equal(cells.longest, cells.seconds, data.buckets))


def checked(durations: bins.Floats, data: Data) -> list[float]:
    """Let the reader of such data look at its bounds."""
    bounds, _ = limits(durations, data) if isinstance(data, Streams) else by_budget(durations, data)
    return [float(bound) for bound in bounds]
