"""Labels that were given with the data, brought in step with an encoder."""

import torch
from torch import Tensor
from torch.nn import functional as F

from research.contracts import Batch, Seq
from research.errors import HarkError


def aligned(batch: Batch, lengths: Tensor, size: int) -> Seq:
    """Labels of frames as an encoder counts them: (B, U, G) for `lengths` (B,) of `size` frames -> (B, size, G).

    A label more or less than frames at the end of an utterance is dropped or missed, as HuBERT's implementations do:
    frontends differ in what they make of the last samples. A row without labels is left without. HarkError when they
    are of another hop.
    """
    labels = batch.labels
    assert labels is not None
    wrong = (labels.lengths > 0) & ((labels.lengths - lengths).abs() > 1)  # (B,) on the host
    for row in wrong.nonzero()[:1, 0].tolist():
        raise HarkError(
            f"utterance {batch.ids[row]}: has {labels.lengths[row]} labels, but the encoder gives {lengths[row]} frames; "
            "choose frontend.hop and encoder.stride so that frames are as far apart as labels, or extract labels of a "
            "model whose are"
        )
    x = F.pad(labels.x, (0, 0, 0, max(0, size - labels.x.size(1))))[:, :size]  # (B, size, G)
    return Seq(x, torch.minimum(labels.lengths, lengths))
