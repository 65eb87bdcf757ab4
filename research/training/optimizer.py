"""Parameter groups -> AdamW, and what happens between backward and the weights."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from research.config import Optimizer
from research.contracts import Plugin, Task
from research.engine.sharding import part, total_norm
from research.engine.whole import Whole
from research.schedules import Schedule
from research.training.adamw import AdamW


def adamw(task: Task, cfg: Optimizer) -> AdamW:
    """AdamW over the task's groups; `lr_scale` of a group stays with the group."""
    groups = [group for group in task.param_groups() if group["params"]]
    for group in groups:
        group.setdefault("lr_scale", unscaled)
    return AdamW(groups, lr=cfg.lr, betas=cfg.betas, eps=cfg.eps, weight_decay=cfg.weight_decay)


def unscaled(_: int) -> float:
    return 1.0


def set_lr(optimizer: torch.optim.Optimizer, peak: float, schedule: Schedule, step: int, steps: int) -> float:
    """Put the learning rate of `step` into every group; give the one of unscaled groups."""
    lr = peak * schedule(step, steps)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"](step)
    return lr


def state_of(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    """Give the optimizer's state without what the groups compute from the step."""
    state = optimizer.state_dict()
    for group in state["param_groups"]:
        group.pop("lr_scale")
    return state


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Go on with the state of a checkpoint, of which each rank takes its part."""
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    params = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        k: {name: part(value, params[k]) for name, value in each.items()}
        for k, each in state["state"].items()
    }
    optimizer.load_state_dict(state | {"state": moments})
    for group, scale in zip(optimizer.param_groups, scales, strict=True):
        group["lr_scale"] = scale


def scale_gradients(optimizer: AdamW, count: Tensor, clip: float) -> Tensor:
    """Have the next step take means over `count` targets, clipped to the norm `clip` (0: not). Give the norm."""
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = total_norm(grads) / count
    over = torch.clamp((norm + 1e-6) / clip, min=1.0) if clip > 0 else 1.0
    optimizer.scale = (count * over).float()
    return norm


def end_step(task: nn.Module, step: int) -> None:
    """Tell every plugin in the model that optimizer step number `step` is done."""
    with Whole() if isinstance(task, FSDPModule) else nullcontext():
        for module in task.modules():
            if isinstance(module, Plugin):
                module.on_step_end(step)
