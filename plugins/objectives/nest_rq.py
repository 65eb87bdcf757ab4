from dataclasses import dataclass

import torch

from research.contracts import Batch, Loss, Objective, Parts, Stat, Use
from research.errors import HarkError
from research.nn.functional import masked_ce, select, stack
from research.nn.future import Future, heard
from research.nn.modules import CodeHead
from research.registry import register


@register("nest_rq")
class NestRQ(Objective):
    """Predict the next N random-projection tokens from what has been heard (arXiv 2409.08680, section 2).

    Each of the N has a softmax of its own on the same output of a streaming encoder; nothing is masked. `hold_acc` is
    the accuracy of saying the last heard token N times. Deviations: with an encoder that hears ahead, in chunks, the
    tokens begin after the last frame it can have heard; targets are of the clean signal where the encoder hears noise.
    Some frontends tell of what is to come: `log_mel` its mean and spread over the utterance, `mfcc` its deltas.
    """

    example = ("encoder=fastconformer_tiny_causal", "quantizer.codes=64", "objective.tokens=2")
    masks = Use.never

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        tokens: int = 5  # how many a frame predicts (N of the paper)

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        self.cfg, self.ahead = cfg, heard(self.encoder, "nest_rq")
        if cfg.tokens < 1:
            raise HarkError(f"objective.tokens={cfg.tokens}: nothing would be predicted; type 1 or more")
        self.quantizer = parts.quantizer(self.frontend.dim * self.encoder.stride)
        if any(p.requires_grad for p in self.quantizer.parameters()):
            raise HarkError("objective=nest_rq: trains no quantizer; type quantizer=random_projection")
        self.head = CodeHead(self.encoder.dim, cfg.tokens * self.quantizer.books, self.quantizer.codes)

    def forward(self, batch: Batch) -> Loss:
        r, n = self.encoder.stride, self.cfg.tokens
        clean, noisy = self.features(batch)  # (B, S, F)
        h = self.encoder(noisy).last  # (B, T, D)
        counts = clean.lengths // r  # (B,) whole pieces
        future = Future.of(counts, h.x.size(1), self.ahead + 1, n)
        pieces = stack(clean.x, r)  # (B, T, r * F)
        whole = torch.arange(pieces.size(1)) < counts[:, None]  # (B, T)
        ids = self.quantizer(select(pieces, whole)).ids  # (P, G)
        logits = self.head(select(h.x, future.asking))  # (A, N * G, V)
        target = future.targets(ids)  # (M, G)
        loss = masked_ce(future.answers(logits.unflatten(1, (n, -1))), target)
        later = torch.arange(n).expand_as(future.asked)[future.asked]  # (M,) than the first that is asked
        held = future.targets(ids, -1 - later)  # (M, G)
        return loss.noting({"hold_acc": Stat((held == target).float().mean(-1).sum(), loss.count)})
