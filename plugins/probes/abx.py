from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import torch
from torch import Tensor

from research.downstream import Answers, Features, Probe
from research.errors import HarkError
from research.nn.dtw import distances
from research.nn.grid import MICRO, vocabulary
from research.registry import register


@dataclass(frozen=True)
class Token:
    """A phone as it was said once."""

    utterance: int
    phone: int
    context: tuple[str, str]  # the labels before and after it, "" at the ends of the utterance
    speaker: str
    frames: Tensor  # (T, D), at least one


def triples(
    tokens: Sequence[Token], groups: Sequence[Hashable], most: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Rows (X, A, B) of tokens and their weights, (N, 3) and (N,): all three of one group, X and A the same phone.

    A cell is a group and an ordered pair of phones. It has all its triples, or `most` that are drawn from them, and
    they weigh 1 together.
    """
    generator = torch.Generator().manual_seed(seed)
    members: dict[Hashable, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, (token, group) in enumerate(zip(tokens, groups, strict=True)):
        members[group][token.phone].append(i)
    rows, weights = [torch.zeros(0, 3, dtype=torch.long)], [torch.zeros(0)]
    for phones in members.values():
        for same, other in permutations(map(torch.tensor, phones.values()), 2):
            count = len(same) * (len(same) - 1) * len(other)
            drawn = (
                torch.arange(count) if count <= most else torch.randint(count, (most,), generator=generator)
            )  # (n,)
            rest, b = drawn // len(other), drawn % len(other)
            x, a = rest // max(1, len(same) - 1), rest % max(1, len(same) - 1)
            rows.append(torch.stack([same[x], same[a + (a >= x)], other[b]], 1))  # A is not X
            weights.append(torch.full((len(drawn),), 1 / max(1, len(drawn))))
    return torch.cat(rows), torch.cat(weights)


@register("abx")
class ABX(Probe):
    """Phone ABX error: how often X is nearer to B, another phone, than to A, the same phone said another time.

    `error` is within a speaker and a context, the labels before and after the phone; `any_context` drops the context;
    `any_speaker`, where there are several, keeps the context and drops the speaker. A tie is half an error, chance
    0.5. The distance is angular, over frames aligned by dynamic time warping, as in ZeroSpeech 2021 (arXiv
    2011.11588); errors are averaged over the triples of a cell, over cells, and over ordered pairs of phones, so that
    rare phones count as much as common ones. Nothing is learnt.

    A token's frames are those whose centres lie in it, or the one at its own centre: every representation answers the
    same triples, but of a short phone a long frame holds little else than its neighbours. The interval takes X as the
    utterance's own; A and B come from others, which it does not resample.
    """

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        triples: int = 10  # of a cell, at most
        shift: float = 0.01  # s by which labels are moved to later times, as in `phone_frames`
        silent: list[str] = field(
            default_factory=lambda: ["pau", "sil", "sp", "spn", ""]
        )  # contexts, never asked

    falls = True

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        known = vocabulary(dev, test)
        return self.answer(dev, known, seed), self.answer(test, known, seed)

    def answer(self, features: Features, known: dict[str, int], seed: int) -> Answers:
        """Counts (U, conditions, pairs of phones, 2): errors, and triples, each by its weight."""
        tokens = self.tokens(features, known)
        conditions: dict[str, list[Hashable]] = {
            "error": [(token.speaker, token.context) for token in tokens],
            "any_context": [(token.speaker,) for token in tokens],
        }
        if len({token.speaker for token in tokens}) > 1:
            conditions["any_speaker"] = [(token.context,) for token in tokens]
        asked = [
            self.ask(tokens, groups, seed, len(features.frames), len(known)) for groups in conditions.values()
        ]
        counts = torch.stack(asked, 1)  # (U, conditions, pairs, 2)

        def metrics(totals: Tensor) -> dict[str, Tensor]:  # (R, conditions, pairs, 2)
            wrong, asked = totals.unbind(-1)  # (R, conditions, pairs)
            share = wrong / asked.clamp(min=1e-12)
            there = asked > 1e-9  # what is left of a weight when its triples are taken out again is rounding
            mean = (share * there).sum(-1) / there.sum(-1)  # (R, conditions)
            return dict(zip(conditions, mean.unbind(1), strict=True))

        return Answers(counts, metrics)

    def ask(
        self, tokens: Sequence[Token], groups: Sequence[Hashable], seed: int, utterances: int, phones: int
    ) -> Tensor:
        """(U, pairs, 2). HarkError: there is nothing to ask."""
        rows, weights = triples(tokens, groups, self.cfg.triples, seed)  # (N, 3), (N,)
        if not len(rows):
            raise HarkError(
                f"abx: in {utterances} utterances no phone is said twice between the same neighbours, where another is "
                "said too; give more, with --dev or --test"
            )
        pairs = torch.cat([rows[:, [0, 1]], rows[:, [0, 2]]])  # (2 N, 2)
        unique, place = pairs.unique(dim=0, return_inverse=True)
        near, far = distances([token.frames for token in tokens], unique)[place].chunk(2)  # (N,)
        wrong = (near > far).double() + 0.5 * (near == far)
        phone = torch.tensor([token.phone for token in tokens])[rows]  # (N, 3)
        utterance = torch.tensor([token.utterance for token in tokens])[rows[:, 0]]  # (N,)
        cell = (utterance * phones + phone[:, 0]) * phones + phone[:, 2]
        counts = torch.zeros(utterances * phones * phones, 2, dtype=torch.double)
        counts.index_add_(0, cell, torch.stack([wrong * weights, weights.double()], 1))
        return counts.view(utterances, phones * phones, 2)

    def tokens(self, features: Features, known: dict[str, int]) -> list[Token]:
        found = []
        speakers = features.speakers or [""] * len(features.frames)
        for u, (x, segments, speaker) in enumerate(
            zip(features.frames, features.segments, speakers, strict=True)
        ):
            labels = ["", *(label for _, _, label in segments), ""]
            for k, (start, end, label) in enumerate(segments):
                if label not in self.cfg.silent:
                    rows = self.rows(start, end, features.period, len(x))
                    found.append(Token(u, known[label], (labels[k], labels[k + 2]), speaker, x[rows]))
        return found

    def rows(self, start: float, end: float, period: float, size: int) -> slice:
        """Frames whose centres lie in a segment; at least the frame in which its own centre lies."""
        first, last, step = (round(t * MICRO) for t in (start + self.cfg.shift, end + self.cfg.shift, period))
        low, high = (-((step - 2 * t) // (2 * step)) for t in (first, last))  # ceil(t / step - 1 / 2)
        if high <= low:
            low = (first + last) // (2 * step)
            high = low + 1
        return slice(min(low, size - 1), max(1, min(high, size)))
