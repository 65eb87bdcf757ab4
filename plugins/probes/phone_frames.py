from dataclasses import dataclass, field

import torch
from torch import Tensor

from research.downstream import Answers, Features, Probe
from research.nn.classifier import Classifier, Training, search
from research.nn.grid import Grid, vocabulary
from research.registry import preset, register


def metrics(counts: Tensor) -> dict[str, Tensor]:
    """(R, 3) right, right if the commonest training label were said, asked -> shares."""
    return {"accuracy": counts[:, 0] / counts[:, 2], "majority": counts[:, 1] / counts[:, 2]}


@register("phone_frames")
class PhoneFrames(Probe):
    """Linear frame phone classification: multinomial logistic regression from one frame, no context.

    A frame that covers several cells of the grid has one weight matrix for each of them. Of the learning rates that
    one is taken which is most accurate on dev. On log-mel the classifier is as accurate as L-BFGS run to convergence
    with the best L2 (to 0.01), in a quarter of the time or less, and more accurate than linear discriminant analysis
    (by 0.04). `phone_frames_mlp` has a hidden layer: what it knows more is there, but not linearly.
    Given several layers at once, it learns a weighted sum of them (SUPERB, arXiv 2105.01051).
    """

    example = ("probe.training.steps=60",)

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        grid: Grid = field(default_factory=Grid)
        training: Training = field(default_factory=Training)

    mixes = True

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        known, training = vocabulary(train, dev, test), self.cfg.training
        pairs = self.cfg.grid.align(train, known)
        x, y = torch.cat([x for x, _ in pairs]), torch.cat([y for _, y in pairs])  # (K, D), (K, P)
        common = y[y >= 0].mode().values
        lr, model = search(
            x,
            y,
            len(known),
            training,
            seed=seed,
            score=lambda model: float(self.counts(model, dev, known, common)[:, 0].sum()),
        )
        weights = model.weights if train.layers else []

        def answer(features: Features) -> Answers:
            return Answers(self.counts(model, features, known, common), metrics, {"lr": lr}, weights)

        return answer(dev), answer(test)

    def counts(self, model: Classifier, features: Features, known: dict[str, int], common: Tensor) -> Tensor:
        """(U, 3), of what `metrics` reads."""
        found = []
        for x, y in self.cfg.grid.align(features, known):  # (K, D), (K, P)
            said = model.answer(x)  # (K, P)
            found.append(torch.stack([(said == y).sum(), (common == y).sum(), (y >= 0).sum()]))
        return torch.stack(found).double()


preset("phone_frames_mlp", PhoneFrames.Config(training=Training(hidden=256)))
