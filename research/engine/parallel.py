"""One objective on several ranks."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch.distributed as dist
from fairseq2.nn.data_parallel import get_data_parallel_facade
from torch import Tensor, nn
from torch.distributed import GradBucket, ProcessGroup  # type: ignore[attr-defined] # in no __all__
from torch.distributed.fsdp import FSDPModule
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from research.config import Parallel
from research.engine.gangs import Ranks
from research.engine.sharding import shard

M = TypeVar("M", bound=nn.Module)


def place(model: M, ranks: Ranks, parallel: Parallel) -> M:
    """Put a model on the device of its rank: whole, or a part of it where several ranks share it (`shard`)."""
    if ranks.size > 1 and parallel is Parallel.fsdp:
        shard(model, ranks)
        return model
    return model.to(ranks.device)


def wrap(model: nn.Module, ranks: Ranks) -> nn.Module:
    """Make `backward` leave the SUM of the ranks' gradients in every rank: the loop divides by the global count.

    Parameters and buffers start as those of rank 0. One rank gets the model back as it is, as do ranks that share it.
    Gradients lie in the buckets that are summed: fairseq2's `to_ddp` keeps them a second time.
    """
    if ranks.size == 1 or isinstance(model, FSDPModule):
        return model
    # of depthwise weights (D, 1, 1, K), whose strides differ in axes of size 1 only
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    group, saved = ranks.gangs.rdp.as_process_group(), model.state_dict()
    for name, buffer in model.named_buffers():
        if name in saved:
            dist.broadcast(buffer, 0, group=group)
    wrapped = DistributedDataParallel(
        model, process_group=group, broadcast_buffers=False, gradient_as_bucket_view=True
    )
    wrapped.register_comm_hook(group, add_up)
    return wrapped


def add_up(group: ProcessGroup, bucket: GradBucket) -> Future[Tensor]:
    """Sum a bucket of gradients. fairseq2's own `normalize_grads=False` raises: torch refuses its annotations."""
    work = dist.all_reduce(bucket.buffer(), group=group, async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


def begin_sum(tensor: Tensor, ranks: Ranks) -> Callable[[], object]:
    """Begin to sum a tensor over the ranks, in place. Call what is given before the tensor is read."""
    if ranks.size == 1:
        return lambda: None
    work = dist.all_reduce(tensor, group=ranks.gangs.rdp.as_process_group(), async_op=True)
    return work.wait


def no_sync(wrapped: nn.Module, *, active: bool) -> AbstractContextManager[None]:
    """Let gradients add up on each rank alone: active for all batches of a step but the last."""
    if isinstance(wrapped, FSDPModule):
        wrapped.set_requires_gradient_sync(not active)  # fairseq2's own calls a method that is not there
        return nullcontext()
    return get_data_parallel_facade(wrapped).no_sync() if active else nullcontext()
