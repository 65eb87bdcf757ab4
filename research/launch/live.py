"""How much the tensors of a computation take, from moment to moment, whether they have values or not."""

import weakref
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from research.launch.convolution import SCRATCH
from research.launch.shapes import tensors

aten = torch.ops.aten


def convolution_backward(
    grad: Tensor, x: Tensor, weight: Tensor, *rest: Any, out_val: Sequence[Tensor | None], **_: Any
) -> int:
    """FLOPs: for each of the two gradients that are asked for, as many as forward.

    torch's own formula takes the weights of a grouped convolution for those of a full one.
    """
    transposed: bool = rest[4]
    each = 2 * (x if transposed else grad).numel() * weight[0].numel()
    return each * sum(part is not None for part in out_val[:2])


COUNTS = flop_registry | {
    aten.convolution_backward: convolution_backward,
    # the CPU's attention, which torch's own counter leaves out
    aten._scaled_dot_product_flash_attention_for_cpu: flop_registry[  # noqa: SLF001  torch's only name for it
        aten._scaled_dot_product_flash_attention  # noqa: SLF001
    ],
    aten._scaled_dot_product_flash_attention_for_cpu_backward: flop_registry[  # noqa: SLF001
        aten._scaled_dot_product_flash_attention_backward  # noqa: SLF001
    ],
}
REST = "activations"  # what nobody has named


class Live(TorchDispatchMode):
    """While it is on: bytes of all storages that are alive, their peak, and what was computed.

    Storages count once, however many tensors view them, rounded up to `step` bytes as an allocator does. Only those
    on `devices` count.
    """

    def __init__(self, devices: Sequence[str], step: int = 1) -> None:
        super().__init__()
        self.devices, self.step = devices, step
        self.blocks: dict[int, tuple[int, str, object]] = {}  # storage -> bytes, name, what tells of its end
        self.now: dict[str, int] = defaultdict(int)  # bytes by name
        self.total = 0
        self.reset()

    def reset(self) -> None:
        """Forget the peak and the sums, not what is alive."""
        self.peak, self.parts = self.total, dict(self.now)
        self.flops = {"low": 0, "full": 0}  # of matrix products, by precision
        self.traffic = 0  # bytes that were read and written
        self.launches = 0  # operators that computed anything

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        scratch = SCRATCH[func](*args) if func in SCRATCH else 0
        self.add(REST, scratch)
        out = func(*args, **kwargs)
        made = list(tensors(out))
        for tensor in made:
            self.see(tensor)
        self.add(REST, -scratch)
        self.book(func, made, args, kwargs, out)
        return out

    def book(self, func: Any, made: list[Tensor], args: Any, kwargs: Any, out: Any) -> None:
        """Add up what an operator computes and moves."""
        if made and made[0].device.type in self.devices and not func.is_view:
            read = tensors(args, *kwargs.values())
            self.launches += 1
            self.traffic += sum(tensor.nbytes for tensor in (*read, *made))
        count = COUNTS.get(func.overloadpacket)
        if count is not None:
            low = made[0].dtype in (torch.bfloat16, torch.float16)
            self.flops["low" if low else "full"] += count(*args, **kwargs, out_val=out)

    def see(self, tensor: Tensor, name: str = REST) -> None:
        """Count the storage of a tensor, under a name."""
        if tensor.device.type not in self.devices:
            return
        storage = tensor.untyped_storage()
        key, size = storage._cdata, -(-storage.nbytes() // self.step) * self.step  # noqa: SLF001  its identity
        if key in self.blocks:
            if name != REST:
                self.rename(key, name)
            return
        self.blocks[key] = size, name, weakref.ref(storage, lambda _: self.drop(key))
        self.add(name, size)

    def rename(self, key: int, name: str) -> None:
        size, old, end = self.blocks[key]
        self.blocks[key] = size, name, end
        self.now[old] -= size
        self.now[name] += size

    def drop(self, key: int) -> None:
        size, name, _ = self.blocks.pop(key)
        self.add(name, -size)

    def add(self, name: str, size: int) -> None:
        self.now[name] += size
        self.total += size
        if self.total > self.peak:
            self.peak, self.parts = self.total, dict(self.now)
