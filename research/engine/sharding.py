"""One model shared out among the ranks (FSDP2): each holds a part of every parameter, gradient and moment.

The blocks of encoders are gathered one at a time, when they are called; everything else for the whole of `forward`.
"""

from collections import Counter
from collections.abc import Mapping

import torch
from fairseq2.gang import create_fsdp_gangs
from fairseq2.nn.fsdp import FSDPWrapper, to_fsdp2
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import Module
from torch.utils._pytree import register_pytree_node

from research.contracts import Encoder, Loss
from research.engine.gangs import Ranks
from research.errors import HarkError

# FSDP2 looks in what a module gives for the tensor whose backward pass it has to follow
register_pytree_node(
    Loss, lambda loss: ([loss.total], (loss.count, loss.stats)), lambda total, rest: Loss(*total, *rest)
)


def shard(model: Module, ranks: Ranks) -> None:
    """Share a model out in place, that of rank 0. `backward` leaves SUMS over the ranks, each rank its part.

    It may still lie on the host: block by block goes to the device. Parameters are other objects afterwards, so an
    optimizer is to be made later. HarkError for a parameter without a dimension.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim == 0:
            raise HarkError(
                f"train.parallel=fsdp: {name} has no dimension that ranks could share; give it the shape (1,), "
                "or type train.parallel=ddp"
            )
        parameter.data = parameter.data.contiguous()  # FSDP2 takes no channels-last weights
    to_fsdp2(model, create_fsdp_gangs(ranks.gangs), one_by_one, broadcast_state=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def one_by_one(module: Module, wrapper: FSDPWrapper) -> Module:
    for block in reversed(blocks(module)):  # those inside others first
        wrapper(block)
    return module


def blocks(model: Module) -> list[Module]:
    """Blocks of every encoder in a model, teachers' too, but for those that share a parameter with something else."""
    encoders = [module for module in model.modules() if isinstance(module, Encoder)]
    lists = [
        child for encoder in encoders for child in encoder.children() if isinstance(child, nn.ModuleList)
    ]
    everywhere = uses(model)
    return [block for each in lists for block in each if uses(block).items() <= everywhere.items()]


def uses(module: Module) -> Counter[nn.Parameter]:
    """How many names each parameter has in a module."""
    return Counter(parameter for _, parameter in module.named_parameters(remove_duplicate=False))


def full(value: Tensor) -> Tensor:
    """Gather what the ranks share; all of them call this together. Anything else is given as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def part(value: Tensor, like: Tensor) -> Tensor:
    """Lay out what belongs to a parameter as the parameter lies in memory: this rank's part, where ranks share it."""
    if value.shape != like.shape:
        return value
    if isinstance(like, DTensor):
        value = distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)  # parts may be views that keep all of it


def refill(model: Module, values: Mapping[str, Tensor]) -> None:
    """Put the whole tensors of a checkpoint back into a model that ranks may share: each takes its part."""
    model.load_state_dict({name: part(values[name], held) for name, held in model.state_dict().items()})


def local(value: Tensor) -> Tensor:
    """Give the part that lies on this rank."""
    return value.to_local() if isinstance(value, DTensor) else value


def total_norm(grads: list[Tensor]) -> Tensor:
    """The norm of all gradients together, of all ranks' parts where they share them: a scalar on the device."""
    norm = nn.utils.get_total_norm([local(grad) for grad in grads])
    if isinstance(grads[0], DTensor):
        square = norm.double().square()
        distributed.all_reduce(square, group=grads[0].device_mesh.get_group())
        norm = square.sqrt().to(norm.dtype)
    return norm
