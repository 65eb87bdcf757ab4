from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from research.downstream import Answers, Features, Probe
from research.errors import HarkError
from research.nn.classifier import standard
from research.registry import register


def metrics(counts: Tensor) -> dict[str, Tensor]:
    """(R, 4) found first, reciprocal rank, chance of the first, asked -> means over those that were asked."""
    first, reciprocal, chance = (counts[:, i] / counts[:, 3].clamp(min=1) for i in range(3))
    return {"accuracy": first, "reciprocal_rank": reciprocal, "chance": chance}


def sections(x: Tensor, count: int) -> Tensor:
    """Means of equal parts of an utterance, one after another: (T, D) -> (count * D,). A short one repeats frames."""
    return F.adaptive_avg_pool1d(x.T[None], count)[0].T.flatten()


@register("words")
class Words(Probe):
    """Word retrieval across voices: whether the nearest of what other voices said is the same word.

    Every utterance asks all those of the set that have another voice, of whatever language; one whose word no other
    voice says is not asked. `accuracy` is how often the first is right, `reciprocal_rank` tells how far down the right
    one is, `chance` what drawing one at random would score; of equally near ones the wrong come first. An utterance is
    a fixed number of sections' means, which dev chooses (one section is the mean of all frames), standardised by the
    training frames; nearness is their cosine. Nothing else is learnt, so the seed changes no more than the training
    utterances. Words of dev and test differ; the voices do not, and each has a channel of its own. Needs
    `hark prepare tasks`.
    """

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        sections: list[int] = field(default_factory=lambda: [1, 5, 10])  # dev chooses one

    task, key = "word", "item"

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        x = torch.cat(train.frames)  # (K, D)
        mean, scale = standard(x)

        def counts(features: Features, count: int) -> Tensor:  # (U, 4)
            vectors = [sections((x - mean) / scale, count) for x in features.frames]
            return ranked(torch.stack(vectors), features)

        tried = {count: counts(dev, count) for count in self.cfg.sections}
        chosen = max(tried, key=lambda count: float(tried[count][:, 1].sum()))
        settings = {"sections": float(chosen)}
        return Answers(tried[chosen], metrics, settings), Answers(counts(test, chosen), metrics, settings)


def ranked(vectors: Tensor, features: Features) -> Tensor:
    """(U, E) -> what `metrics` reads of each, (U, 4). HarkError: no word is said by two voices."""
    unit = F.normalize(vectors, dim=1)
    word, voice = (
        torch.tensor([sorted(set(names)).index(name) for name in names])
        for names in (features.labels, features.speakers)
    )  # (U,) each
    others = voice[:, None] != voice  # (U, U)
    right = others & (word[:, None] == word)  # (U, U)
    if not right.any():
        raise HarkError("words: no two voices say the same word; `hark prepare tasks` writes such a task")
    near = (unit @ unit.T).masked_fill(~others, -torch.inf)  # (U, U)
    best = near.masked_fill(~right, -torch.inf).amax(1, keepdim=True)  # (U, 1)
    rank = 1 + ((near >= best) & others & ~right).sum(1)  # (U,)
    chance = right.sum(1) / others.sum(1).clamp(min=1)
    asked = right.any(1)
    return torch.stack([rank == 1, 1 / rank, chance, asked], 1).double() * asked[:, None]
