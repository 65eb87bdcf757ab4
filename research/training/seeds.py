"""Randomness as a function of where we are, never of what was drawn before."""

import hashlib

import torch


def seed_all(*place: int | str) -> None:
    """Seed torch's generators from a place such as (run seed, step, batch of the step)."""
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    torch.manual_seed(int.from_bytes(digest) >> 1)
