from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from research.downstream import Answers, Features, Probe
from research.nn.classifier import Classifier, Training, search
from research.registry import preset, register


def metrics(counts: Tensor) -> dict[str, Tensor]:
    """(R, 3, K) right, right if the commonest training label were said, asked, of each label -> shares.

    `macro_accuracy` and `majority` are means over the labels that are asked: no label weighs more than another.
    """
    right, common, asked = counts.unbind(1)  # (R, K)
    there = asked > 0

    def mean(hits: Tensor) -> Tensor:
        return (hits / asked.clamp(min=1)).sum(1) / there.sum(1)

    return {"macro_accuracy": mean(right), "accuracy": right.sum(1) / asked.sum(1), "majority": mean(common)}


@register("voice")
class UtteranceLabel(Probe):
    """What is said of a whole utterance, by logistic regression from the mean of its frames.

    `voice` asks who speaks, in utterances of which no voice said the like in training. Every voice was recorded in one
    place, so it is voice/source id: the channel may tell what the voice does not. `language` asks which language it
    is, of voices and sources that training has not heard; dev has heard them, so its choice of rate and layer may not
    be the best for the test. Both need `hark prepare tasks`. Of the learning rates dev chooses one.

    A frontend that normalises every utterance (`log_mel`, `mfcc`) leaves next to nothing in a mean: the baselines to beat
    are those that nothing normalises.
    """

    example = ("probe.training.steps=60",)

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        task: str = "voice"  # whose manifests are read
        key: str = "speaker"  # of their lines: the label
        training: Training = field(default_factory=Training)

    mixes = True
    baselines = ("log_mel_raw", "mfcc_plain")

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg, self.task, self.key = cfg, cfg.task, cfg.key

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        names = sorted({*train.labels, *dev.labels, *test.labels})
        known, training = {name: i for i, name in enumerate(names)}, self.cfg.training
        x, y = pooled(train), numbered(train, known)  # (U, D), (U,)

        def counts(model: Classifier, features: Features) -> Tensor:  # (U, 3, K)
            right = numbered(features, known)  # (U,)
            said = model.answer(pooled(features))[:, 0]  # (U,)
            hits = torch.stack([said == right, y.mode().values == right, right >= 0], 1)  # (U, 3)
            return (hits[..., None] * F.one_hot(right, len(known))[:, None]).double()

        lr, model = search(
            x,
            y[:, None],
            len(known),
            training,
            seed=seed,
            score=lambda model: float(metrics(counts(model, dev).sum(0, keepdim=True))["macro_accuracy"]),
        )
        weights = model.weights if train.layers else []
        held, asked = counts(model, dev), counts(model, test)
        return Answers(held, metrics, {"lr": lr}, weights), Answers(asked, metrics, {"lr": lr}, weights)


def pooled(features: Features) -> Tensor:
    """Mean over the frames of each utterance: (U, D), or (U, L, D) of several layers."""
    return torch.stack([x.mean(0) for x in features.frames])


def numbered(features: Features, known: dict[str, int]) -> Tensor:
    return torch.tensor([known[label] for label in features.labels])  # (U,)


preset("language", UtteranceLabel.Config(task="language", key="lang"))
