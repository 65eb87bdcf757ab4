"""A moving average of a network: whose outputs data2vec, DinoSR and their kin predict."""

from collections.abc import Collection
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


class Teacher(nn.Module, Generic[M]):
    """A copy of a student that nothing trains, always in eval mode: call `self.model` under `torch.no_grad()`.

    A copied plugin is told the end of a step as every other: what the student has collected for it (batch norm's sums)
    is copied too, so both make the same of it, and their buffers end equal.
    """

    model: M
    followed = False  # whether it was told to, in this process

    def __init__(self, student: M) -> None:
        super().__init__()
        self.model = deepcopy(student).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Teacher[M]":  # noqa: FBT001, FBT002  torch's signature
        super().train(mode)
        self.model.eval()
        return self

    def begin(self, student: M, given: Collection[str]) -> None:
        """Begin as the student does after `init=` gave the objective weights of these names, unless some are its own."""
        if not any(name.startswith("teacher.") for name in given):
            self.model.load_state_dict(student.state_dict())

    @torch.no_grad()
    def follow(self, student: M, keep: float) -> None:
        """Move to `keep` * teacher + (1 - keep) * student; buffers are copied. Call it in `on_step_end`."""
        self.followed = True
        torch._foreach_lerp_([*self.model.parameters()], [*student.parameters()], 1 - keep)
        for buffer, moving in zip(self.model.buffers(), student.buffers(), strict=True):
            buffer.copy_(moving)
