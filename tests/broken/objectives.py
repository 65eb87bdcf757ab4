"""NEST, broken in one way each: state, learning, edges, device."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from plugins.frontends.log_mel import Normalize
from plugins.objectives.nest import NEST
from research.contracts import Stat
from research.nn.functional import masked_ce, stack
from research.registry import register
from tests.broken import breaks


class Hot(NEST):
    """A loss with a temperature."""

    saved = True

    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.register_buffer("temperature", torch.ones(()), persistent=self.saved)

    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, total=loss.total * self.temperature.clone())


@breaks("forward_moves_no_state__temperature")
class CoolsInForward(Hot):
    def forward(self, batch):
        loss = super().forward(batch)
        if self.training:
            self.temperature.mul_(0.99)
        return loss


@breaks("forward_moves_no_state__statistic")
class CountsInForward(NEST):
    """As torch's own batch norm does."""

    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.register_buffer("mean", torch.zeros(self.frontend.dim))

    def forward(self, batch):
        clean, _ = self.features(batch)
        self.mean.lerp_(clean.x.mean((0, 1)), 0.1)
        return super().forward(batch)


@breaks("forward_moves_no_state__backward")
class CountsInBackward(Hot):
    def forward(self, batch):
        loss = super().forward(batch)
        loss.total.register_hook(lambda grad: self.temperature.mul_(0.99) and None)
        return loss


@breaks("validation_leaves_no_trace")
class CollectsInEvaluation(NEST):
    """The codebook of an online quantizer, moved by what validation showed it."""

    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.register_buffer("mean", torch.zeros(self.frontend.dim))
        self.register_buffer("pool", torch.zeros(self.frontend.dim), persistent=False)

    def forward(self, batch):
        clean, _ = self.features(batch)
        self.pool += clean.x.square().sum((0, 1))
        return super().forward(batch)

    def on_step_end(self, step):
        self.mean.lerp_(self.pool, 0.1)
        self.pool.zero_()


@breaks("ranks_are_micro_batches__not_summed")
class CollectsPerRank(CollectsInEvaluation):
    """Right on one rank."""

    def forward(self, batch):
        if not self.training:
            return NEST.forward(self, batch)
        return super().forward(batch)


@breaks("ranks_are_micro_batches__drawn")
class DrawsAtStepEnd(Hot):
    """A dead code that starts again at random: each rank elsewhere."""

    def on_step_end(self, step):
        self.temperature.copy_(torch.rand(()))


@breaks("ranks_are_micro_batches__waits")
class SkipsACollective(Hot):
    def on_step_end(self, step):
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 0:
            torch.distributed.all_reduce(self.temperature)


@breaks("step_end_runs_once")
class TellsItsParts(NEST):
    def on_step_end(self, step):
        self.quantizer.on_step_end(step)


@breaks("resuming_is_exact__not_saved")
class ForgetsItsTemperature(Hot):
    saved = False

    def on_step_end(self, step):
        self.temperature.mul_(0.9)


@breaks("resuming_is_exact__attribute")
class CountsCalls(NEST):
    calls = 0

    def forward(self, batch):
        self.calls += self.training
        loss = super().forward(batch)
        return replace(loss, total=loss.total / self.calls**0.5) if self.calls else loss


@breaks("resuming_is_exact__drawn")
class DrawsAndForgets(NEST):
    """A projection from the run's seed, not saved."""

    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.register_buffer("turn", torch.randn(self.frontend.dim), persistent=False)

    def fill(self, feats, mask):
        return super().fill(feats.replace(feats.x + self.turn), mask)


@breaks("checkpoint_is_whole__late")
class RegistersLate(NEST):
    def on_step_end(self, step):
        self.register_buffer("late", torch.ones(3))


@breaks("checkpoint_is_whole__grows")
class Grows(NEST):
    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.register_buffer("seen", torch.zeros(0))

    def on_step_end(self, step):
        self.seen = torch.zeros(step)


@breaks("gradients_reach_every_parameter__unused")
class HasASpareHead(NEST):
    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.spare = nn.Linear(4, 4)


@breaks("gradients_reach_every_parameter__zero")
class HasADeadHead(HasASpareHead):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, total=loss.total + 0 * sum(p.sum() for p in self.spare.parameters()))


@breaks("groups_cover_every_parameter__twice")
class GroupsTwice(NEST):
    def param_groups(self):
        return [
            *super().param_groups(),
            {"params": list(self.head.parameters()), "lr_scale": lambda step: 0.1},
        ]


@breaks("groups_cover_every_parameter__missing")
class GroupsTheEncoder(NEST):
    def param_groups(self):
        return [{"params": list(self.encoder.parameters())}]


@breaks("groups_cover_every_parameter__foreign")
class GroupsFrozenOnes(NEST):
    def param_groups(self):
        return [{"params": list(self.parameters())}]


@breaks("groups_cover_every_parameter__scale")
class ScalesByTensor(NEST):
    def param_groups(self):
        return [group | {"lr_scale": lambda step: torch.ones(())} for group in super().param_groups()]


@breaks("loss_falls")
class Unlearns(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, total=2 * loss.total.detach() - loss.total)


@breaks("odd_batches_are_harmless__mean")
class AveragesNothing(NEST):
    """A mean over no target, times their number."""

    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, total=loss.total / torch.tensor(float(loss.count)) * loss.count)


@breaks("odd_batches_are_harmless__returns")
class ReturnsEarly(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return loss if loss.count else replace(loss, total=torch.zeros((), requires_grad=True) * 1)


@breaks("odd_batches_are_harmless__crashes")
class NeedsATarget(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        if loss.count == 0:
            raise RuntimeError("no targets")
        return loss


@breaks("odd_batches_are_harmless__penalty")
class PenalizesNothing(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, total=loss.total + 0.1 * self.head.weight.square().sum())


@breaks("odd_batches_are_harmless__step_end")
class DividesAtStepEnd(Hot):
    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.register_buffer("targets", torch.zeros(()), persistent=False)

    def forward(self, batch):
        loss = super().forward(batch)
        self.targets += loss.count
        return loss

    def on_step_end(self, step):
        self.temperature.mul_(self.targets / self.targets)
        self.targets.zero_()


@breaks("device_is_never_read__item")
class ReadsALoss(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, stats=loss.stats | {"now": Stat(torch.tensor(loss.total.item()), loss.count)})


class Indexes(NEST):
    """NEST with its own forward: frames by a mask on the device, which has to say how many there are."""

    def forward(self, batch):
        r = self.encoder.stride
        clean, noisy = self.features(batch)
        mask = self.masking(clean.lengths, clean.x.size(1))
        h = self.encoder(self.fill(noisy, mask)).last
        hit = (stack(mask[..., None].float(), r).mean(-1) > self.cfg.threshold).to(h.x.device)
        ids = self.quantizer(stack(clean.x, r)[hit]).ids
        return masked_ce(self.head(h.x[hit]), ids)


breaks("device_is_never_read__index")(Indexes)


@breaks("device_is_never_read__blocking_copy")
class CopiesAndWaits(NEST):
    def fill(self, feats, mask):
        gain = torch.ones(feats.x.size(-1)).to(feats.x.device)
        return super().fill(feats.replace(feats.x * gain), mask)


@breaks("device_is_never_read__index_on_the_host")
class ShufflesOnTheHost(NEST):
    def features(self, batch):
        clean, noisy = super().features(batch)
        return clean, noisy.replace(noisy.x[torch.arange(noisy.x.size(0))])


@breaks("device_is_never_read__step_end")
class ReadsAtStepEnd(Hot):
    def on_step_end(self, step):
        if self.temperature > 0.5:
            self.temperature.mul_(0.9)


@breaks("device_is_never_read__left_behind")
class HidesATensor(NEST):
    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.hidden = [torch.zeros(self.frontend.dim)]

    def fill(self, feats, mask):
        return super().fill(feats.replace(feats.x + self.hidden[0]), mask)


@breaks("device_is_never_read__count")
class CountsOnTheDevice(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return replace(loss, count=torch.ones(loss.count, device=loss.total.device).sum())


@breaks("builds_at_full_size")
class ReadsAtBirth(NEST):
    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.scale = float(self.head.weight.abs().max())


@register("config_reads_back")
class HoldsAnything(NEST):
    @dataclass(kw_only=True)
    class Config(NEST.Config):
        mode: Any = Normalize.none  # without its type YAML holds a word
