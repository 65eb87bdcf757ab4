"""Mamba-2 (arXiv 2405.21060) one frame after the other, for one utterance without padding."""

import torch
from torch.nn import functional as F


def recurrence(x, decay, write, read):
    """Section 2.1 with one scalar per head: x (T, H, P), decay (T, H), write and read (T, N) -> (T, H, P)."""
    state = torch.zeros(*x.shape[1:], write.size(1), dtype=x.dtype)  # (H, P, N)
    rows = []
    for t in range(len(x)):
        state = decay[t].exp()[:, None, None] * state + x[t][..., None] * write[t]
        rows.append(state @ read[t])
    return torch.stack(rows)


def mixer(w, x, heads, state):
    """One direction of one block: (T, D)."""
    z = x @ w["up.weight"].T
    inner = w["scale"].numel()
    gate, mixed, step = z[:, :inner], z[:, inner : 2 * inner + 2 * state], z[:, 2 * inner + 2 * state :]
    taps = w["depthwise.weight"][:, 0, 0]  # (C, K)
    rows = []
    for t in range(len(x)):
        y = w["depthwise.bias"]
        for back in range(taps.size(1)):
            if t - back >= 0:
                y = y + taps[:, taps.size(1) - 1 - back] * mixed[t - back]
        rows.append(y * y.sigmoid())
    mixed = torch.stack(rows)
    u, write, read = mixed[:, :inner], mixed[:, inner : inner + state], mixed[:, inner + state :]
    u = u.reshape(len(x), heads, -1)
    step = F.softplus(step + w["step_bias"])
    y = recurrence(u * step[..., None], -w["rate"].exp() * step, write, read)
    y = (y + w["skip"][:, None] * u).reshape(len(x), -1) * gate * gate.sigmoid()
    y = y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt() * w["scale"]
    return y @ w["down.weight"].T


def encode(weights, x, *, depth, heads, state, both):
    """What every block gives, the last norm on the last: (T, D) each."""
    states = []
    for i in range(depth):
        own = {key.removeprefix(f"layers.{i}."): w for key, w in weights.items() if f"layers.{i}." in key}
        read = rms(x, own["norm.weight"])
        y = mixer(part(own, "past."), read, heads, state)
        if both:
            y = y + mixer(part(own, "future."), read.flip(0), heads, state).flip(0)
        x = x + y
        states.append(x)
    states[-1] = rms(states[-1], weights["norm.weight"])
    return states


def part(weights, prefix):
    return {key.removeprefix(prefix): w for key, w in weights.items() if key.startswith(prefix)}


def rms(x, weight):
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
