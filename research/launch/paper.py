"""A training step without values: torch's meta device, made to allocate what a real device would.

Meta tensors have no autocast, no fused attention and no fused optimizer of their own; what a real device does in
their place decides what a step needs, so it is done here by the same rules.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from research.launch.convolution import Orders
from research.nn import shapes  # noqa: F401  registers them

META = torch.device("meta")

LOWER = frozenset(
    {"linear", "conv1d", "conv2d", "conv_transpose1d", "conv_transpose2d", "einsum"}
    | {"matmul", "__matmul__", "__rmatmul__", "mm", "bmm", "baddbmm", "addmm"}
)  # what autocast computes in bf16 on every device
UPPER = frozenset(
    {"layer_norm", "group_norm", "softmax", "log_softmax", "logsumexp", "norm", "cosine_similarity", "cdist"}
    | {"exp", "log", "log1p", "log2", "log10", "pow", "rsqrt", "reciprocal", "cumsum"}
    | {"cross_entropy", "nll_loss", "kl_div", "mse_loss", "l1_loss", "smooth_l1_loss", "softplus"}
)  # what CUDA's autocast computes in fp32; the CPU's does not


class Autocast(TorchFunctionMode):
    """Autocast to bf16 for meta tensors, switched by the state of the CPU's, and the operators of one device."""

    def __init__(self, *, cuda: bool, fused: bool) -> None:
        super().__init__()
        self.cuda, self.fused = cuda, fused
        self.copies: dict[int, Tensor] = {}  # bf16 copies of parameters, made once while autocast is on

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if func == IS_CUDA:  # torch makes it anew every time
            return self.cuda and args[0].device == META
        low = torch.is_autocast_enabled("cpu")
        if low and (name in LOWER or func is F.scaled_dot_product_attention):
            args, kwargs = tree_map_only(Tensor, self.lower, (args, kwargs))
        elif low and self.cuda and name in UPPER:
            args, kwargs = tree_map_only(Tensor, upper, (args, kwargs))
        if func is F.scaled_dot_product_attention:
            return self.attend(*args, **kwargs)
        if self.cuda and func is F.dropout:
            return dropout(*args, **kwargs)
        if func is Tensor.backward:
            with self:  # what is recomputed in the backward pass goes the same ways
                return torch.autograd.backward(args[0], kwargs.pop("gradient", None), **kwargs)
        return func(*args, **kwargs)

    def lower(self, x: Tensor) -> Tensor:
        """Give the bf16 copy of an fp32 tensor."""
        if x.dtype != torch.float32 or x.device != META:
            return x
        if not (x.requires_grad and x.is_leaf):
            return x.bfloat16()
        if id(x) not in self.copies:
            self.copies[id(x)] = x.bfloat16()
        return self.copies[id(x)]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, p: float = 0.0) -> Tensor:
        """Attention (B, H, C, Dh) by the kernel that the device would take."""
        if q.device != META:
            return F.scaled_dot_product_attention(q, k, v, bias, p)
        if self.cuda and self.fused and q.size(-1) * q.element_size() % 16 == 0:
            bias = aligned(bias).expand(*q.shape[:3], k.size(2))
            return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, bias, True, p)[0]  # noqa: SLF001
        if not self.cuda and p == 0 and not bias.requires_grad:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, attn_mask=bias)[0]  # noqa: SLF001
        return F.scaled_dot_product_attention(q, k, v, bias, p)  # matrix by matrix


IS_CUDA = Tensor.is_cuda.__get__  # type: ignore[attr-defined] # a property made in C


def upper(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bfloat16 and x.device == META else x


def dropout(x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:  # noqa: ARG001, FBT001, FBT002  torch's own signature
    """Dropout as CUDA does it: what autograd keeps is one byte an element."""
    return torch.native_dropout(x, p, training)[0]


def aligned(bias: Tensor) -> Tensor:
    """Rows of a bias start at multiples of 8 elements, as CUDA's kernel needs it: a copy where they do not."""
    if bias.stride(-1) == 1 and all(stride % 8 == 0 for stride in bias.stride()[:-1]):
        return bias
    size = bias.size(-1)
    return F.pad(bias, (0, -size % 8))[..., :size]


@contextmanager
def on_paper(*, cuda: bool, fused: bool) -> Iterator[torch.device]:
    """Give the device whose tensors have no values; what runs inside behaves as on the CPU, or as on CUDA.

    `fused`: CUDA's fused attention takes the dtype of the step, which old devices refuse for bf16.
    """
    mode = Autocast(cuda=cuda, fused=fused)
    inert = "ipu" if cuda else "cpu"  # what is said of the CPU's autocast means nothing on CUDA

    def borrow(device: str, *args: Any, **kwargs: Any) -> torch.autocast:
        return torch.amp.autocast_mode.autocast(
            {"meta": "cpu", "cpu": inert}.get(device, device), *args, **kwargs
        )

    def clear(inner: Callable[[], None] = torch.clear_autocast_cache) -> None:
        mode.copies.clear()
        inner()

    with ExitStack() as stack:
        stack.enter_context(patch("torch.autocast", borrow))
        stack.enter_context(patch("torch.clear_autocast_cache", clear))
        stack.enter_context(patch("torch.optim.optimizer._get_fused_kernels_supported_devices", devices))
        stack.enter_context(
            patch("torch.distributed.is_initialized", bool)
        )  # one rank is alone, wherever it runs
        stack.enter_context(mode)
        stack.enter_context(Orders())
        yield META


def devices() -> list[str]:
    return ["meta"]
