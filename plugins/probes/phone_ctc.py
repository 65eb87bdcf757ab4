from dataclasses import dataclass, field
from unicodedata import category

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from research.downstream import Answers, Features, Probe
from research.nn.classifier import best, standard
from research.nn.edits import collapse, edits
from research.nn.grid import Grid
from research.registry import preset, register


def metrics(counts: Tensor) -> dict[str, Tensor]:
    """(R, 2) insertions, deletions and substitutions, and right tokens -> errors per token; it can exceed 1."""
    return {"error_rate": counts[:, 0] / counts[:, 1]}


def letters(text: str) -> list[str]:
    """Letters, digits and single spaces, in lower case: stress marks (`+`) and punctuation are left out."""
    kept = "".join(c for c in text.lower() if category(c)[0] in "LMN" or c.isspace())
    return list(" ".join(kept.split()))


def turned(x: Tensor, lengths: Tensor) -> Tensor:
    """Each row backwards, its padding left where it is: (B, T, D), (B,) -> (B, T, D)."""
    time = torch.arange(x.size(1))
    back = lengths[:, None] - 1 - time  # (B, T)
    return x.gather(1, torch.where(back < 0, time, back)[..., None].expand_as(x))


class Reader(nn.Module):
    """Utterances, each (T, D), standardised -> scores (B, T * P, labels) of P positions of each frame; 0 is blank."""

    def __init__(self, dim: int, positions: int, labels: int, units: int) -> None:
        super().__init__()
        self.labels = labels
        self.there = nn.LSTM(dim, units, batch_first=True) if units else None
        self.back = nn.LSTM(dim, units, batch_first=True) if units else None
        self.out = nn.Linear(2 * units if units else dim, positions * labels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, xs: list[Tensor]) -> Tensor:
        x, lengths = pad_sequence(xs, batch_first=True), torch.tensor([len(x) for x in xs])  # (B, T, D), (B,)
        if self.there and self.back:  # as one bidirectional LSTM on packed rows, and several times faster
            ends, starts = self.there(x)[0], self.back(turned(x, lengths))[0]  # (B, T, units)
            x = torch.cat([ends, turned(starts, lengths)], -1)  # (B, T, 2 units)
        return self.out(x).unflatten(-1, (-1, self.labels)).flatten(1, 2)


@register("phone_ctc")
class CTCReader(Probe):
    """Error rate of what a linear layer reads from frames, trained by CTC (doi 10.1145/1143844.1143891), greedily decoded.

    `phone_ctc` reads the phones, pauses left out; `char_ctc` the letters of the text; `_lstm` puts a bidirectional LSTM
    in between, as SUPERB's recogniser does (arXiv 2105.01051), but small. Every representation answers once per cell:
    shorter frames are put together, a longer one answers several. The training is a short one, a minute of a CPU at
    most, far from converged: error rates compare representations and are no recogniser's. Dev chooses the learning
    rate.
    """

    example = ("probe.steps=40", "probe.lrs=[0.1]")

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        key: str = ""  # of a manifest's lines, that holds the text to be read; empty: the phones are
        cell: float = 0.04  # s
        silent: list[str] = field(default_factory=lambda: ["pau", "sil", "sp", "spn", ""])  # phones left out
        lrs: list[float] = field(default_factory=lambda: [3e-3, 0.01, 0.03])  # at first; dev chooses one
        steps: int = 120  # of AdamW, the rate falling to zero by half a cosine
        batch: int = 4  # utterances
        units: int = 0  # of the LSTM in each direction; 0: linear

    falls = True

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg, self.key = cfg, cfg.key

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        texts = [self.tokens(part) for part in (train, dev, test)]
        names = sorted({token for part in texts for one in part for token in one})
        known = {name: i + 1 for i, name in enumerate(names)}
        learnt, held, asked = (
            [torch.tensor([known[t] for t in one]).long() for one in part] for part in texts
        )
        x = torch.cat(train.frames)  # (K, D)
        mean, scale = standard(x)
        xs, us, vs = (
            [self.cells((x - mean) / scale, part.period) for x in part.frames] for part in (train, dev, test)
        )
        positions = Grid(cell=self.cfg.cell).positions(train.period)
        lr, reader = best(
            self.cfg.lrs,
            lambda lr: self.fit(xs, learnt, positions, len(known) + 1, lr=lr, seed=seed),
            lambda reader: -float(errors(reader, us, held, positions)[:, 0].sum()),
        )
        return (
            Answers(errors(reader, us, held, positions), metrics, {"lr": lr}),
            Answers(errors(reader, vs, asked, positions), metrics, {"lr": lr}),
        )

    def tokens(self, features: Features) -> list[list[str]]:
        if self.key:
            return [letters(text) for text in features.labels]
        return [[p for _, _, p in segments if p not in self.cfg.silent] for segments in features.segments]

    def cells(self, x: Tensor, period: float) -> Tensor:
        """Frames that are shorter than a cell, put together: (T, D) -> (T', D'); the last fills the last cell."""
        parts = max(1, round(self.cfg.cell / period))
        rows = torch.arange(-(-len(x) // parts) * parts).clamp(max=len(x) - 1)
        return x[rows].view(-1, parts * x.size(1))

    def fit(
        self, xs: list[Tensor], texts: list[Tensor], positions: int, labels: int, *, lr: float, seed: int
    ) -> Reader:
        cfg, generator = self.cfg, torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            reader = Reader(xs[0].size(1), positions, labels, cfg.units)
        optimizer = torch.optim.AdamW(reader.parameters(), lr=lr, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, cfg.steps)
        epochs = -(-cfg.steps * cfg.batch // len(xs))
        order = torch.cat([torch.randperm(len(xs), generator=generator) for _ in range(epochs)])
        for rows in order[: cfg.steps * cfg.batch].split(cfg.batch):
            some, right = [xs[i] for i in rows], [texts[i] for i in rows]
            scores = reader(some).log_softmax(-1).transpose(0, 1)  # (T * P, B, labels)
            lengths = torch.tensor([len(x) * positions for x in some])  # (B,)
            sizes = torch.tensor([len(text) for text in right])  # (B,)
            loss = F.ctc_loss(scores, torch.cat(right), lengths, sizes, reduction="sum", zero_infinity=True)
            optimizer.zero_grad()
            (loss / sizes.sum().clamp(min=1)).backward()
            optimizer.step()
            schedule.step()
        return reader


@torch.no_grad()
def errors(reader: Reader, xs: list[Tensor], texts: list[Tensor], positions: int) -> Tensor:
    """(U, 2), of what `metrics` reads."""
    said = reader(xs).argmax(-1)  # (U, T * P)
    valid = torch.arange(said.size(1)) < torch.tensor([len(x) * positions for x in xs])[:, None]
    answers, lengths = collapse(said, valid, 0)
    sizes = torch.tensor([len(text) for text in texts])  # (U,)
    right = pad_sequence(texts, batch_first=True)  # (U, longest)
    return torch.stack([edits(answers, lengths, right, sizes), sizes], 1).double()


preset("phone_ctc_lstm", CTCReader.Config(units=32))
preset("char_ctc", CTCReader.Config(key="text"))
preset("char_ctc_lstm", CTCReader.Config(key="text", units=32))
