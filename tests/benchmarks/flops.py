"""Floating-point operations that a training step needs: the matrix products and convolutions that its loss depends on.

What an implementation computes beside them is not needed, and not here: products that nothing reads, layers or logits
that are computed a second time to save memory. A multiplication with its addition counts as two.
"""

from dataclasses import replace
from typing import Any

import torch

from research.config import Config
from research.launch.predict import predict
from research.nn.functional import stack
from research.registry import build

MODEL = "NEST.Config", "FastConformer.Config"  # that the formulas are of
DRAWS = 20  # of masks, of which the mean counts
LEARNT = 3  # a product of the forward pass, and two of the same size backward
FIXED = 2  # one backward, where only one factor is learnt


def needed(cfg: Config, rows: int, seconds: float) -> tuple[float, str]:
    """Give the FLOPs of a step over `rows` utterances of `seconds` each, and how they were found.

    `analytic` for NEST's objective on FastConformer, from the formulas below. For others, `counted`: of all matrix
    products that a step does without values, activation checkpointing off.
    """
    if (type(cfg.objective).__qualname__, type(cfg.encoder).__qualname__) == MODEL:
        frames = int(seconds / cfg.frontend.hop + 1e-6)  # S
        hit = hits(cfg, rows, frames)
        return subsampling(cfg, rows, frames) + layers(cfg, rows, frames) + prediction(cfg, hit), "analytic"
    plain = replace(cfg, train=replace(cfg.train, compile=False))
    if hasattr(cfg.encoder, "checkpoint_layers"):
        plain.encoder = replace(cfg.encoder, checkpoint_layers=False)
    return predict(plain, rows, seconds).flops, "counted"


def subsampling(cfg: Any, rows: int, frames: int) -> float:
    """Convolutions of 3 x 3 and stride 2: a whole one, then pairs of a depthwise one and one of 1 x 1; a projection."""
    enc = cfg.encoder
    time, mels, flops = frames, cfg.frontend.dim, 0.0
    for stage in range(enc.stride.bit_length() - 1):
        time, mels = (time + 1) // 2, (mels + 1) // 2
        each = 2 * rows * time * mels * enc.channels  # of one weight per channel
        flops += FIXED * 9 * each if stage == 0 else LEARNT * (9 + enc.channels) * each
    return flops + LEARNT * 2 * rows * time * (enc.channels * mels) * enc.dim


def layers(cfg: Any, rows: int, frames: int) -> float:
    """Two feed-forwards, attention and the convolution module (arXiv 2005.08100)."""
    enc = cfg.encoder
    size = -(-frames // enc.stride)  # T
    squares = 2 * 2 * enc.ff_mult + 4 + 3  # weights of D x D: feed-forwards; attention; gate and output
    learnt = rows * size * (squares * enc.dim**2 + enc.dim * enc.kernel)
    scores = rows * size**2 * enc.dim * 2  # with keys, and with values
    distances = 0
    if enc.positions.value == "rel_pos":
        scores += rows * size**2 * enc.dim  # with distances
        distances = (2 * size - 1) * enc.dim**2  # projected once for all rows
    return enc.depth * 2 * (LEARNT * (learnt + scores) + FIXED * distances)


def prediction(cfg: Any, hit: float) -> float:
    """Codes and logits of the frames that the loss counts."""
    book, width = cfg.quantizer, cfg.frontend.dim * cfg.encoder.stride
    codes = book.books * book.dim * (width + book.codes)
    return 2 * hit * (codes + LEARNT * cfg.encoder.dim * book.books * book.codes)


def hits(cfg: Any, rows: int, frames: int) -> float:
    """Frames of the encoder that count in a batch, on average over masks."""
    masking, lengths = build(cfg.masking), torch.full((rows,), frames)
    masks = (masking(lengths, frames)[..., None].float() for _ in range(DRAWS))  # (B, S, 1)
    counted = [(stack(mask, cfg.encoder.stride).mean(-1) > cfg.objective.threshold).sum() for mask in masks]
    return float(torch.stack(counted).float().mean())
