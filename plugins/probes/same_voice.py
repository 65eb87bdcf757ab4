from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from research.downstream import Answers, Features, Probe
from research.errors import HarkError
from research.nn.classifier import standard
from research.registry import register

BINS = 2000  # of cosines from -1 to 1


def metrics(counts: Tensor) -> dict[str, Tensor]:
    """Trials of another voice and of the same one by their score's bin (R, 2, BINS) -> equal error rate (R,)."""
    shares = counts.cumsum(-1) / counts.sum(-1, keepdim=True).clamp(min=1)  # (R, 2, BINS)
    below = F.pad(shares, (1, 0))  # (R, 2, BINS + 1), of what lies below each threshold
    accepted, missed = 1 - below[:, 0], below[:, 1]  # (R, BINS + 1)
    gap = missed - accepted  # rises from -1 to 1
    after = (gap >= 0).double().argmax(1, keepdim=True).clamp(min=1)  # (R, 1)
    before = after - 1
    low, high = gap.gather(1, before), gap.gather(1, after)
    share = low / (low - high)  # of the way to where they meet
    met = missed.gather(1, before).lerp(missed.gather(1, after), share)
    return {"error": met[:, 0]}


@register("same_voice")
class SameVoice(Probe):
    """Equal error rate of telling whether two recordings are of one voice, of voices that training has not heard.

    An utterance is the mean of its frames, standardised by the training frames. A voice is the mean of its first
    utterances of the set; each later one is compared, by cosine, with every voice. The voices are those of the
    `language` task's test, each with a language and a channel of its own, which give most of them away: the rate says
    how far voices with their sources lie apart, not how well a verification system would do. Nothing is learnt, and
    the interval takes the voices as given. The rate moves in jumps, for which the jackknife is too narrow: simulated with
    40 to 240 utterances, some 90% of 95% intervals hold the truth. Scores are counted in bins of a thousandth. Needs
    `hark prepare tasks`. As for `voice`, the baselines to beat are those that nothing normalises.
    """

    example = ("probe.enrolled=1",)

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        enrolled: int = 5  # utterances that a voice is made of; one without more is left out

    task, key, falls = "language", "speaker", True
    baselines = ("log_mel_raw", "mfcc_plain")

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        x = torch.cat(train.frames)  # (K, D)
        mean, scale = standard(x)

        def answer(features: Features) -> Answers:
            vectors = torch.stack([((x - mean) / scale).mean(0) for x in features.frames])  # (U, D)
            return Answers(self.trials(F.normalize(vectors, dim=1), features.labels), metrics)

        return answer(dev), answer(test)

    def trials(self, vectors: Tensor, voices: list[str]) -> Tensor:
        """(U, D) -> (U, 2, BINS). HarkError: fewer than two voices with enough utterances."""
        of = {v: [u for u, other in enumerate(voices) if other == v] for v in dict.fromkeys(voices)}
        of = {voice: rows for voice, rows in of.items() if len(rows) > self.cfg.enrolled}
        if len(of) < 2:
            raise HarkError(
                f"same_voice: {len(of)} voices have more than {self.cfg.enrolled} utterances; it takes two"
            )
        enrolled = [vectors[rows[: self.cfg.enrolled]].mean(0) for rows in of.values()]
        models = F.normalize(torch.stack(enrolled), dim=1)  # (V, D)
        counts = torch.zeros(len(vectors), 2, BINS, dtype=torch.double)
        for number, rows in enumerate(of.values()):
            later = torch.tensor(rows[self.cfg.enrolled :])  # (K,)
            cosine = vectors[later] @ models.T  # (K, V)
            bins = ((cosine + 1) * (BINS / 2)).long().clamp(max=BINS - 1)
            same = (torch.arange(len(of)) == number).long()  # (V,)
            counts.index_put_(
                (later[:, None], same, bins), torch.ones((), dtype=torch.double), accumulate=True
            )
        return counts
