"""One objective on several ranks."""

from contextlib import AbstractContextManager, nullcontext

from fairseq2.nn.data_parallel import get_data_parallel_facade
from fairseq2.nn.ddp import to_ddp
from torch import nn

from research.engine.gangs import Ranks


def wrap(model: nn.Module, ranks: Ranks) -> nn.Module:
    """Make `backward` leave the SUM of the ranks' gradients in every rank: the loop divides by the global count.

    Parameters and buffers start as those of rank 0. One rank gets the model back as it is.
    """
    return model if ranks.size == 1 else to_ddp(model, ranks.gangs, normalize_grads=False)


def no_sync(wrapped: nn.Module, *, active: bool) -> AbstractContextManager[None]:
    """Let gradients add up on each rank alone: active for all batches of a step but the last."""
    return get_data_parallel_facade(wrapped).no_sync() if active else nullcontext()
