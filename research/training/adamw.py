"""torch's fused AdamW without torch's compiler, whose import would cost every process a second and 105 MB."""

from inspect import unwrap
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class AdamW(torch.optim.AdamW):
    """AdamW of one fused kernel a group (arXiv 1711.05101, algorithm 2). Its moments exist before the first step.

    Made in the step, they would lie scattered among activations. `scale` divides the gradients as the kernel reads
    them, which saves a pass over all of them. What torch wraps against its compiler is taken unwrapped.
    """

    add_param_group = unwrap(Optimizer.add_param_group)
    state_dict = unwrap(Optimizer.state_dict)
    zero_grad = unwrap(Optimizer.zero_grad)

    scale: Tensor  # ()

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        super().__init__(groups, fused=True, **settings)
        self.scale = torch.ones(())
        self.begin()

    def begin(self) -> None:
        """Give moments of zero to the parameters that have none."""
        for p in (p for group in self.param_groups for p in group["params"] if not self.state.get(p)):
            moments = {name: torch.zeros_like(p) for name in ("exp_avg", "exp_avg_sq")}
            self.state[p] = {"step": torch.zeros((), device=p.device)} | moments

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a state, torch's too, which has nothing of parameters that never had a gradient."""
        unwrap(Optimizer.load_state_dict)(self, state_dict)
        self.begin()

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move the parameters that have a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            states = [self.state[p] for p in params]
            steps = [state["step"] for state in states]
            torch._foreach_add_(steps, 1)
            torch._fused_adamw_(
                params,
                [p.grad for p in params],
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [],
                steps,
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=False,
                grad_scale=self.scale,
            )
