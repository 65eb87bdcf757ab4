"""Aggregations, heads and criteria, broken in one way each."""

from dataclasses import replace

import torch
from torch import nn

from plugins.aggregations.max import Max
from plugins.aggregations.mean import Mean
from plugins.criteria.cross_entropy import CrossEntropy
from plugins.criteria.ctc import CTC
from plugins.heads.attentive import Attentive
from plugins.heads.ecapa_tdnn import ECAPA
from plugins.heads.linear import Linear
from research.contracts import Seq, Stat
from research.nn.pooling import utterance
from tests.broken import breaks


@breaks("width_is_as_promised__pair")
class GivesPairs(Max):
    """What torch's own max over a dimension gives."""

    def forward(self, layers):
        return torch.stack(list(layers)).max(0)


@breaks("width_is_as_promised__layers")
class StacksLayers(Max):
    def forward(self, layers):
        return torch.stack(list(layers), -1)


@breaks("frames_stand_alone")
class CentresRows(Mean):
    def forward(self, layers):
        out = super().forward(layers)
        return out - out.mean(1, keepdim=True)


@breaks("vectors_are_as_promised__lengths")
class KeepsLengths(Linear):
    def forward(self, x):
        return x.replace(super().forward(x).x)


@breaks("vectors_are_as_promised__dim")
class MistakesItsWidth(Linear):
    def __init__(self, cfg, *, dim_in):
        super().__init__(cfg, dim_in=dim_in)
        self.dim = dim_in


@breaks("rows_ignore_padding__mean")
class AveragesPadding(Linear):
    def forward(self, x):
        return utterance(self.proj(x.x.mean(1, keepdim=True)), x)


@breaks("rows_ignore_padding__rows")
class SubtractsTheBatch(Linear):
    def forward(self, x):
        out = super().forward(x)
        return out.replace(out.x - out.x.mean(0))


@breaks("statistics_ignore_padding__vectors")
class NormalizesPadding(ECAPA):
    """Whole rows count in every batch norm."""

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        return utterance(super().forward(Seq(x.x, torch.full_like(x.lengths, x.x.size(1)))).x, x)


class Centred(Linear):
    """A mean that is kept and taken off."""

    def __init__(self, cfg, *, dim_in):
        super().__init__(cfg, dim_in=dim_in)
        self.register_buffer("centre", torch.zeros(dim_in))
        self.register_buffer("pool", torch.zeros(dim_in), persistent=False)

    def forward(self, x):
        self.collect(x)
        return super().forward(x.replace(x.x - self.centre))

    def collect(self, x):
        self.pool += x.x.mean((0, 1))

    def on_step_end(self, step):
        self.centre.lerp_(self.pool, 0.1)
        self.pool.zero_()


@breaks("statistics_ignore_padding__state")
class CountsPadding(Centred):
    pass


@breaks("forward_keeps_state")
class MovesInForward(Centred):
    def collect(self, x):
        self.centre.mul_(0.9).add_(x.x.mean((0, 1)), alpha=0.1)


@breaks("parameters_are_reached__unused")
class HasASparePart(Linear):
    def __init__(self, cfg, *, dim_in):
        super().__init__(cfg, dim_in=dim_in)
        self.spare = nn.Linear(4, 4)


@breaks("parameters_are_reached__detached")
class DetachesItsInput(Linear):
    """A bias that softmax takes out again."""

    def __init__(self, cfg, *, dim_in):
        super().__init__(cfg, dim_in=dim_in)
        self.dead = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        out = super().forward(x)
        return out.replace(out.x + 0 * self.dead)


@breaks("inputs_are_kept")
class SilencesInPlace(Linear):
    def forward(self, x):
        x.x.mul_(0.5)
        return super().forward(x)


@breaks("autocast_is_harmless__crash")
class AddsIntoFp32(Linear):
    def forward(self, x):
        out = super().forward(x)
        total = torch.zeros(len(out.x), 1, self.dim, device=out.x.device)
        return out.replace(total.index_add_(0, torch.arange(len(out.x)), self.proj(x.x[:, :1])))


@breaks("autocast_is_harmless__variance")
class TakesDifferencesInBf16(Attentive):
    """A variance as a difference of two large numbers."""

    def forward(self, x):
        y = self.proj(x.x) + 30
        variance = (y * y).mean(1, keepdim=True) - y.mean(1, keepdim=True).square()  # (B, 1, hidden)
        return utterance(torch.cat([variance.sqrt()] * 2, -1)[..., : self.dim], x)


@breaks("odd_rows_are_harmless__empty")
class DividesByNothing(Linear):
    def forward(self, x):
        total = (x.x * x.valid[..., None]).sum(1, keepdim=True)
        return utterance(self.proj(total / x.valid.sum(1)[:, None, None]).nan_to_num(), x)


@breaks("odd_rows_are_harmless__root")
class TakesARootOfZero(Attentive):
    """Fine until a row has one frame: the slope of the root is infinite there."""

    def forward(self, x):
        y, inside = self.proj(x.x), x.valid[..., None]
        count = inside.sum(1, keepdim=True).clamp(min=1)
        mean = (y * inside).sum(1, keepdim=True) / count
        deviation = (((y - mean) * inside).square().sum(1, keepdim=True) / count).sqrt()
        return utterance(self.out(torch.cat([mean, deviation], -1)), x)


@breaks("host_never_waits")
class AsksForTheLongest(Linear):
    def forward(self, x):
        longest = int(x.valid.sum(1).max())
        return super().forward(Seq(x.x[:, : max(1, longest)], x.lengths))


@breaks("loss_is_a_sum__mean")
class Averages(CrossEntropy):
    def forward(self, h, labels):
        loss = super().forward(h, labels)
        return replace(loss, total=loss.total / max(1, loss.count))


@breaks("loss_is_a_sum__rows")
class CountsRows(CTC):
    def forward(self, h, labels):
        return replace(super().forward(h, labels), count=len(h.lengths))


@breaks("loss_is_a_sum__stat")
class LogsAMean(CrossEntropy):
    def forward(self, h, labels):
        loss = super().forward(h, labels)
        mean = loss.stats["acc"].total / max(1, loss.count)
        return replace(loss, stats=loss.stats | {"acc": Stat(mean * 2, loss.count)})


@breaks("padding_changes_nothing__frames")
class AlignsPadding(CTC):
    def forward(self, h, labels):
        return super().forward(Seq(h.x, torch.full_like(h.lengths, h.x.size(1))), labels)


@breaks("padding_changes_nothing__labels")
class LearnsPadding(CrossEntropy):
    def forward(self, h, labels):
        loss = super().forward(h, labels)
        return replace(loss, total=loss.total + 0.1 * self.out.bias[labels.x].sum())


@breaks("scores_are_as_promised__blank")
class HidesTheBlank(CTC):
    def scores(self, h):
        return super().scores(h)[..., :-1]

    def forward(self, h, labels):
        raise NotImplementedError


@breaks("scores_are_as_promised__dtype")
class RoundsScores(CrossEntropy):
    def scores(self, h):
        return super().scores(h).bfloat16()


@breaks("stats_keep_names__names")
class DropsStats(CrossEntropy):
    def forward(self, h, labels):
        loss = super().forward(h, labels)
        return loss if loss.count else replace(loss, stats={})


@breaks("stats_keep_names__unlabelled")
class LearnsSilence(CTC):
    """A row without labels is all blank, so it has a loss over no label."""

    def forward(self, h, labels):
        loss = super().forward(h, labels)
        blanks = self.scores(h).log_softmax(-1)[..., -1] * h.valid
        return replace(loss, total=loss.total - blanks.sum())


@breaks("learning_pays__detached")
class LearnsNothing(CrossEntropy):
    def forward(self, h, labels):
        return super().forward(h.replace(0 * h.x), labels)


@breaks("learning_pays__scores")
class AnswersTheOpposite(CrossEntropy):
    def scores(self, h):
        return -super().scores(h)
