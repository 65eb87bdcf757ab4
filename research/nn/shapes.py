"""Shapes of what torch has no kernel for without values: to import it is enough. Meta tensors and fake ones both use them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, library


def ctc_shape(
    log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, *_: Any
) -> Sequence[Tensor]:
    """Shapes of a CTC loss and of what its gradient needs: (T, B, V) -> (B,), (B, T, 2 U + 1)."""
    if frames.device.type != "cpu" or labels.device.type != "cpu":
        raise NotImplementedError("CTC reads its lengths: keep them on the host")
    steps, batch = log_probs.shape[:2]
    return log_probs.new_empty(batch), log_probs.new_empty(batch, steps, 2 * targets.size(-1) + 1)


WITHOUT_VALUES = library.Library("aten", "IMPL")
WITHOUT_VALUES.impl("_ctc_loss.Tensor", ctc_shape, "Meta")
WITHOUT_VALUES.impl(
    "_ctc_loss_backward.Tensor", lambda _, log_probs, *__: torch.empty_like(log_probs), "Meta"
)
