"""Whether weights moved since step 0, without a copy of them: two sums of each group."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from research.contracts import Quantizer, Task
from research.engine.gangs import Ranks
from research.engine.sharding import local
from research.nn.teacher import Teacher

STUDENT, TEACHER, CODES = "student", "teacher", "codes"


def groups(task: Task) -> dict[str, list[Tensor]]:
    """What moves in training: the student, teachers, and codebooks that are trained or fitted; by `kind@name`."""
    found: dict[str, list[Tensor]] = {STUDENT: [p for p in task.parameters() if p.requires_grad]}
    for name, module in task.named_modules():
        if isinstance(module, Teacher):
            found[f"{TEACHER}@{name}"] = list(module.model.parameters())
        elif isinstance(module, Quantizer) and (books := codebooks(module)):
            found[f"{CODES}@{name}"] = books
    return found


def codebooks(quantizer: Quantizer) -> list[Tensor]:
    held = dict(quantizer.named_parameters()) | (dict(quantizer.named_buffers()) if quantizer.online else {})
    return [tensor for name, tensor in held.items() if "codebook" in name]


def fingerprints(found: dict[str, list[Tensor]], ranks: Ranks) -> dict[str, float]:
    """Sum and sum of squares of each group, by `name.sum` and `name.square`. Ranks that share a model call it together."""
    whole = torch.stack([sums(some, shared=False) for some in found.values()])  # (K, 2)
    parts = torch.stack([sums(some, shared=True) for some in found.values()])  # (K, 2)
    if any(isinstance(t, DTensor) for some in found.values() for t in some):
        parts = parts.to(ranks.device)
        ranks.all_sum(parts)
    values = (whole.to(parts.device) + parts).tolist()
    return {
        f"{name}.{kind}": value
        for name, pair in zip(found, values, strict=True)
        for kind, value in zip(("sum", "square"), pair, strict=True)
    }


def sums(tensors: Iterable[Tensor], *, shared: bool) -> Tensor:
    """(2,) fp64, of those tensors that ranks share, or of the others."""
    chosen = [local(t.detach()).double() for t in tensors if isinstance(t, DTensor) is shared]
    if not chosen:
        return torch.zeros(2, dtype=torch.float64)
    return torch.stack(
        [torch.stack([t.sum() for t in chosen]).sum(), torch.stack([t.square().sum() for t in chosen]).sum()]
    )


def drift(name: str, now: dict[str, float], start: dict[str, float]) -> float:
    """How far a group's sums have moved, relative to its norm; 0: it is what it was."""
    square = max(start[f"{name}.square"], 1e-12)
    apart = abs(now[f"{name}.sum"] - start[f"{name}.sum"]) / square**0.5
    return apart + abs(now[f"{name}.square"] - start[f"{name}.square"]) / square
