"""E-Branchformer (arXiv 2210.00077) frame by frame, for one utterance without padding."""

import math

import torch
from torch.nn import functional as F


def encode(weights, x, *, depth, heads, left=None, right=None, causal=False):
    """Give what each block gives, of what the first one reads: (T, D)."""
    states = []
    for i in range(depth):
        own = {key.removeprefix(f"layers.{i}."): w for key, w in weights.items()}
        x = block(own, x, heads, (left, right), causal)
        states.append(x)
    return states


def block(w, x, heads, context, causal):
    x = x + 0.5 * feed_forward(w, "ff1", x)
    wide = attend(w, norm(w, "attention_norm", x), heads, context)
    near = gated(w, x, causal)
    both = torch.cat([wide, near], -1)  # equation 6
    mixed = convolve(both, w["merge_conv.weight"], w["merge_conv.bias"], causal)  # 7
    x = x + linear(w, "merge", both + mixed)  # 8
    x = x + 0.5 * feed_forward(w, "ff2", x)
    return norm(w, "norm", x)


def linear(w, name, x):
    return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)


def norm(w, name, x):
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    return x * w[f"{name}.weight"] + w[f"{name}.bias"]


def feed_forward(w, name, x):
    inner = linear(w, f"{name}.up", norm(w, f"{name}.norm", x))
    return linear(w, f"{name}.down", inner * inner.sigmoid())


def gated(w, x, causal):
    z = F.gelu(linear(w, "gated.up", norm(w, "gated.norm", x)))
    a, b = z[:, : z.size(1) // 2], z[:, z.size(1) // 2 :]
    b = convolve(
        norm(w, "gated.inner_norm", b), w["gated.depthwise.weight"], w["gated.depthwise.bias"], causal
    )
    return linear(w, "gated.down", a * b)


def convolve(x, weight, bias, causal):
    """Every frame, every tap: x (T, C), weight (C, 1, 1, K)."""
    size = weight.size(-1)
    rows = []
    for t in range(len(x)):
        y = bias
        for k in range(size):
            source = t + k - (size - 1 if causal else size // 2)
            if 0 <= source < len(x):
                y = y + weight[:, 0, 0, k] * x[source]
        rows.append(y)
    return torch.stack(rows)


def attend(w, x, heads, context):
    """Content and distance, each with a bias of its own (arXiv 1901.02860, section 3.3)."""
    size = x.size(1) // heads
    q, k, v = (y.unflatten(-1, (heads, size)) for y in linear(w, "attention.qkv", x).chunk(3, -1))
    rows = []
    for i in range(len(x)):
        keys = [
            j
            for j in range(len(x))
            if (context[0] is None or i - j <= context[0]) and (context[1] is None or j - i <= context[1])
        ]
        far = torch.stack([sinusoid(i - j, x.size(1)) for j in keys]) @ w["attention.distance.weight"].T
        far = far.unflatten(-1, (heads, size))
        content = torch.einsum("hd,khd->hk", q[i] + w["attention.content_bias"], k[keys])
        distance = torch.einsum("hd,khd->hk", q[i] + w["attention.distance_bias"], far)
        weights = ((content + distance) / size**0.5).softmax(-1)
        rows.append(torch.einsum("hk,khd->hd", weights, v[keys]).flatten())
    return linear(w, "attention.out", torch.stack(rows))


def sinusoid(position, dim):
    turns = [position / 10_000 ** (2 * (i // 2) / dim) for i in range(dim)]
    return torch.tensor([math.cos(a) if i % 2 else math.sin(a) for i, a in enumerate(turns)])
