"""A step at a chosen size: what the searches for batch sizes try, for real or on paper."""

from typing import NamedTuple

import torch

from research.config import Data, Streams, Training
from research.contracts import Batch, Seq


class Trial(NamedTuple):
    """What a training step of `rows` utterances of `seconds` each takes."""

    rows: int
    seconds: float
    peak: int  # bytes
    fits: bool
    time: float | None  # s per step; None: it was not done, or did not fit


def full_batch(cfg: Training, rows: int, seconds: float) -> Batch:
    """Give the most that a batch of this size can hold: (rows, seconds * rate) of noise without padding."""
    size = round(seconds * cfg.data.sample_rate)
    lengths = torch.full((rows,), size)

    def sound() -> Seq:
        return Seq(0.1 * torch.randn(rows, size), lengths)  # (B, N)

    ids = [str(row) for row in range(rows)]
    batch = Batch.clean(sound(), noise=sound() if cfg.data.noise else None, ids=ids)
    return batch.augmented(sound(), torch.arange(rows)) if changes(cfg.data) else batch


def changes(data: Data) -> bool:
    """Whether rows may differ from the clean side before anything augments them: all of them may, in one batch."""
    if not isinstance(data, Streams):
        return False
    return any(part.prob > 0 and not part.clean for part in (data.mix, data.reverb))
