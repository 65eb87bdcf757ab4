"""An objective with everything that is hard to share out among ranks: a teacher, vectors of its own, frozen and tied weights."""

from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from research.contracts import Loss, Objective, Stat
from research.nn.functional import select, stack
from research.nn.modules import MaskToken
from research.registry import register


@register("follow_teacher")
class FollowTeacher(Objective):
    """Predict what a moving average of the encoder says of the clean signal. The encoder is run twice."""

    example = ("encoder=fastconformer_tiny", "encoder.stride=4", "quantizer=none")

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        keep: float = 0.9  # of the teacher per step

    def __init__(self, cfg, *, parts):
        super().__init__(parts)
        self.cfg, dim = cfg, self.encoder.dim
        self.teacher = deepcopy(self.encoder).requires_grad_(False)
        self.mask_token = MaskToken(self.frontend.dim, learned=False)
        self.head, self.other_head = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.other_head.weight = self.head.weight
        self.centres = nn.Parameter(torch.randn(5, dim), requires_grad=False)
        self.register_buffer("seen", torch.zeros(5, dim))
        self.register_buffer("pool", torch.zeros(5, dim), persistent=False)
        self.register_buffer("size", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, batch):
        clean, noisy = self.features(batch)
        mask = self.masking(clean.lengths, clean.x.size(1))
        hit = stack(mask[..., None].float(), self.encoder.stride).mean(-1) > 0.5
        with torch.no_grad():
            target = F.layer_norm(select(self.teacher(clean).last.x.float(), hit), (self.encoder.dim,))
        x, plain = self.encoder(self.mask_token(noisy, mask)).last, self.encoder(clean).last
        near = target - self.centres.mean(0)
        error = (self.head(select(x.x, hit)) - near).square() + self.other_head(select(plain.x, hit)).square()
        if self.training:
            self.pool += target.sum(0)
        total, count = error.mean(-1).sum(), len(target)
        return Loss(total, count, {"error": Stat(total, count)})

    @torch.no_grad()
    def on_step_end(self, step):
        """What EMA teachers and codebooks do, with parameters and with buffers."""
        teachers, students = list(self.teacher.parameters()), list(self.encoder.parameters())
        torch._foreach_lerp_(teachers[1:], students[1:], 1 - self.cfg.keep)
        teachers[0].lerp_(students[0], 1 - self.cfg.keep)
        for mine, moving in zip(self.teacher.buffers(), self.encoder.buffers(), strict=True):
            mine.copy_(moving)
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.pool)
        self.seen.lerp_(self.pool, 0.5)
        self.centres.lerp_(self.seen, 0.1)
        self.centres.mul_(1 / (1 + self.centres.norm()))
        self.size.copy_(self.head.weight.square().mean())
        self.steps.add_(1)
        self.pool.zero_()
