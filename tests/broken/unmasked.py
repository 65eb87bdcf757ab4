"""APC and CTC, broken in one way each: what is predicted was heard, or has nothing to do with what was given."""

from dataclasses import replace

import torch

from plugins.objectives.apc import APC
from plugins.objectives.ctc import CTC
from plugins.objectives.nest import NEST
from plugins.objectives.nest_rq import NestRQ
from research.contracts import Use
from tests.broken import breaks


@breaks("no_target_leaks__heard")
class PredictsWhatItHeard(APC):
    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.shift = 0


@breaks("no_target_leaks__ahead")
class ForgetsTheLookahead(APC):
    """The encoder hears two frames ahead, one in each layer; the first frame to come is among them."""

    example = ("encoder=fastconformer_tiny_causal", "encoder.context=[-1,1]")

    def __init__(self, cfg, *, parts):
        super().__init__(cfg, parts=parts)
        self.ahead = 0


@breaks("no_target_leaks__some")
class BeginsTooEarly(NestRQ):
    """Of the two tokens that a frame predicts, the first is its own."""

    def features(self, batch):
        clean, noisy = super().features(batch)
        return clean.replace(clean.x.roll(self.encoder.stride, 1)), noisy


@breaks("no_target_leaks__whole")
class HearsAllOfIt(APC):
    """The encoder hears everything, and says that it hears nothing ahead."""

    example = ("encoder=fastconformer_tiny",)

    def __init__(self, cfg, *, parts):
        parts.encoder.ahead = 0
        super().__init__(cfg, parts=parts)


@breaks("no_target_leaks__text")
class ReadsTheText(CTC):
    def forward(self, batch):
        told = torch.tensor([float(ord(text[0])) for text in batch.texts])[:, None, None]
        with self.frontend.register_forward_hook(lambda _, __, out: out.replace(out.x + told)):
            return super().forward(batch)


@breaks("targets_follow_the_signal__future")
class PredictsNothing(APC):
    def features(self, batch):
        clean, noisy = super().features(batch)
        return clean.replace(torch.zeros_like(clean.x)), noisy


@breaks("targets_follow_the_signal__text")
class LearnsOneLetter(CTC):
    def tokens(self, batch):
        return super().tokens(replace(batch, texts=["a"] * len(batch.texts)))


@breaks("parts_do_as_it_says__never")
class MasksInSecret(APC):
    def features(self, batch):
        clean, noisy = super().features(batch)
        mask = self.masking(noisy.lengths, noisy.x.size(1))
        return clean, noisy.replace(noisy.x.masked_fill(mask[..., None], 0.0))


@breaks("parts_do_as_it_says__must")
class PromisesToMask(APC):
    masks = Use.must


@breaks("parts_do_as_it_says__crash")
class NeedsUnwantedTexts(CTC):
    wants = ()


@breaks("parts_do_as_it_says__labels")
class LikesLabels(NEST):
    def forward(self, batch):
        loss = super().forward(batch)
        return loss if batch.labels is None else replace(loss, total=loss.total * 2)
