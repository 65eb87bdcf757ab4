"""Parameters that ranks share, behaving as if every rank had all of them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.experimental import implicit_replication
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map_only

from research.engine.sharding import full
from research.errors import HarkError

ELEMENTWISE = {
    "masked_fill_",
    "clone",
    "detach",
    "alias",
    "_to_copy",
    "copy_",
    "zero_",
    "fill_",
    "zeros_like",
    "empty_like",
}
REDUCING = {"_foreach_norm", "_foreach_max"}


class Whole(TorchDispatchMode):
    """Each rank does its part of what is done element by element; for all else it reads the gathered parameter.

    DTensor's own reductions are not relied upon: torch 2.9 gives a wrong mean where ranks hold unequal parts, and a wrong
    `1 + x.sum()`. All ranks do the same operations. HarkError for a change of a piece (`p[0] = x`), which would be lost.
    """

    def __init__(self) -> None:
        super().__init__()
        self.read: list[Tensor] = []  # views of gathered parameters

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func._schema.is_mutable:  # noqa: SLF001  torch's only name for it
            self.refuse_lost(func, args, kwargs)
        if not any(isinstance(leaf, DTensor) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if elementwise(func):
            with implicit_replication():
                return func(*args, **kwargs)
        out = func(*tree_map_only(DTensor, full, args), **tree_map_only(DTensor, full, kwargs))
        if func.is_view:
            self.read += [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        return out

    def refuse_lost(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """HarkError when what an operation changes is a copy of a parameter, or would be."""
        first, *_ = tree_flatten((args, kwargs))[0]
        shared = isinstance(first, DTensor) and not elementwise(func)
        copies = {tensor.untyped_storage().data_ptr() for tensor in self.read}
        if shared or (type(first) is Tensor and first.untyped_storage().data_ptr() in copies):
            raise HarkError(
                f"train.parallel=fsdp: on_step_end changes a piece of a parameter ({func}), of which every rank holds "
                "another part: change all of it at once (copy_, lerp_, mul_ ...), keep it in a buffer, or type "
                "train.parallel=ddp"
            )


def elementwise(func: Any) -> bool:
    """Whether an operation needs no element but those at the same place."""
    name = func.overloadpacket.__name__
    many = name.startswith("_foreach_") and name not in REDUCING
    return torch.Tag.pointwise in func.tags or name in ELEMENTWISE or many
