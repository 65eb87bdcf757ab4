"""Attention against its definition, written with loops."""

import pytest
import torch
from torch import nn

from research.contracts import Seq
from research.nn.attention import ATTENTION, Positions, angles, lay_out, rotate, sinusoids, skew, slopes

CONTEXTS = [(-1, -1), (3, 2), (0, 0), (70, 5), (4, -1), (-1, 0)]


def attention(positions, dim=16, heads=2):
    torch.manual_seed(0)
    module = ATTENTION[positions](dim, heads, bias=True, dropout=0.0)
    for name, p in module.named_parameters():
        if "bias" in name:
            nn.init.normal_(p)  # u and v are zero at first
    return module


def seq(*lengths, dim=16):
    torch.manual_seed(1)
    return Seq(torch.randn(len(lengths), max(lengths), dim), torch.tensor(lengths))


def brute_force(module, x, length, context, positions):
    """One row (T, D): every query against every key it may see."""
    t, dim = x.shape
    heads, size = module.heads, dim // module.heads
    q, k, v = (y.unflatten(-1, (heads, size)) for y in module.qkv(x).chunk(3, dim=-1))  # (T, H, Dh)
    if positions is Positions.rope:
        turns = angles(torch.arange(t), size)
        q, k = rotate(q[None], turns)[0], rotate(k[None], turns)[0]
    rows = []
    for i in range(length):
        left = 0 if context[0] < 0 else max(0, i - context[0])
        right = length if context[1] < 0 else min(length, i + context[1] + 1)
        query = q[i] if positions is not Positions.rel_pos else q[i] + module.content_bias
        scores = torch.einsum("hd,khd->hk", query, k[left:right])
        if positions is Positions.rel_pos:
            far = module.distance(sinusoids(i - torch.arange(left, right), dim)).unflatten(-1, (heads, size))
            scores = scores + torch.einsum("hd,khd->hk", q[i] + module.distance_bias, far)
        if positions is Positions.alibi:
            scores = scores - (i - torch.arange(left, right)).abs() * slopes(heads)[:, None] * size**0.5
        weights = (scores / size**0.5).softmax(-1)
        rows.append(torch.einsum("hk,khd->hd", weights, v[left:right]).flatten())
    return module.out(torch.stack(rows))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("positions", list(Positions))
def test_equals_its_definition(positions, context):
    module, x = attention(positions), seq(150, 97)  # longer than a chunk of local attention
    x.x.requires_grad_()
    y = module(x.x, lay_out(x, *context, positions, module.heads))
    expected = [brute_force(module, x.x[i], n, context, positions) for i, n in enumerate(x.lengths)]
    for row, wanted in zip(y, expected, strict=True):
        torch.testing.assert_close(row[: len(wanted)], wanted, rtol=0, atol=1e-5)
    weight = torch.randn(y.shape) * x.valid[..., None]
    got = torch.autograd.grad((y * weight).sum(), [x.x, *module.parameters()])
    total = sum((e * w[: len(e)]).sum() for e, w in zip(expected, weight, strict=True))
    for mine, wanted in zip(got, torch.autograd.grad(total, [x.x, *module.parameters()]), strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("keys", [1, 2, 5, 9])
@pytest.mark.parametrize("queries", [1, 2, 5])
def test_skew_is_a_view_by_distance(queries, keys):
    scores = torch.randn(3, queries, queries + keys)
    skewed = skew(scores, keys)
    assert skewed.data_ptr() >= scores.data_ptr()
    assert skewed._base is scores
    for a in range(queries):
        for b in range(keys):
            assert torch.equal(skewed[:, a, b], scores[:, a, queries - 1 - a + b])


def test_sinusoids_are_the_papers():
    table = sinusoids(torch.tensor([-3, 0, 7]), 6)
    for row, position in zip(table, (-3, 0, 7), strict=True):
        for i in range(3):
            angle = torch.tensor(position / 10_000 ** (2 * i / 6))
            assert torch.allclose(row[2 * i : 2 * i + 2], torch.stack([angle.sin(), angle.cos()]))


def test_rotation_sees_distances_only():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(i, j):
        return (rotate(q, angles(torch.tensor([i]), 8)) * rotate(k, angles(torch.tensor([j]), 8))).sum()

    torch.testing.assert_close(score(5, 2), score(105, 102), rtol=1e-4, atol=1e-4)
    assert not torch.isclose(score(5, 2), score(5, 3), atol=1e-3)


def test_slopes_are_the_papers():
    """Section 3 gives those of 8 heads; the text after it says what 12 heads get."""
    assert slopes(8).tolist() == [2.0**-i for i in range(1, 9)]
    assert slopes(1).tolist() == [2.0**-8]
    sixteen = [2 ** (-i / 2) for i in range(1, 17)]
    torch.testing.assert_close(slopes(12), torch.tensor(sixteen[1::2] + sixteen[:8:2]))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("positions", list(Positions))
def test_rows_of_padding_are_finite(positions, context):
    module, x = attention(positions), seq(90, 90, 90)
    x = Seq(x.x.requires_grad_(), torch.tensor([0, 1, 90]))
    y = module(x.x, lay_out(x, *context, positions, module.heads))
    y.sum().backward()
    assert y.isfinite().all()
    assert x.x.grad.isfinite().all()


def test_local_attention_keeps_memory_linear():
    x = seq(4000)
    layout = lay_out(x, 10, 10, Positions.rel_pos, 2)
    assert layout.bias.numel() < 4000 * 200
