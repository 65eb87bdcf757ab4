"""Cross-entropy piece by piece is that of all logits at once: loss, statistics, gradients; and never holds them."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from research.nn import linear_ce as module
from research.nn.functional import BLOCK, likeliest, masked_ce
from research.nn.linear_ce import linear_ce
from research.nn.modules import CodeHead, CosineHead

M, D, G, V = 50, 12, 2, 96


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    """Pieces of 13 frames: the last one is smaller."""
    monkeypatch.setattr(module, "ROOM", 13 * G * V)
    monkeypatch.setattr(module, "LEAST", 1)


def inputs(dtype=torch.float32):
    source = torch.Generator().manual_seed(0)
    shapes = ((M, D), (G * V, D), (G * V,))
    values = [torch.randn(shape, generator=source, dtype=dtype).requires_grad_() for shape in shapes]
    return *values, torch.randint(V, (M, G), generator=source)


def plain(x, weight, bias, ids):
    return masked_ce((x @ weight.t() + bias).unflatten(-1, (G, V)), ids)


def compare(loss, wanted, values, tolerance):
    assert loss.count == wanted.count
    assert torch.allclose(loss.total, wanted.total, rtol=tolerance)
    assert loss.stats.keys() == wanted.stats.keys()
    pairs = zip(
        torch.autograd.grad(3 * loss.total, values),
        torch.autograd.grad(3 * wanted.total, values),
        strict=True,
    )
    for ours, theirs in pairs:
        assert ours.dtype is theirs.dtype
        assert torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance * float(theirs.abs().max()))


def test_loss_stats_and_gradients_are_those_of_all_logits():
    *values, ids = inputs()
    loss, wanted = linear_ce(*values, ids), plain(*values, ids)
    compare(loss, wanted, values, 1e-6)
    for name, stat in wanted.stats.items():
        assert torch.equal(loss.stats[name].total, stat.total), name
        assert loss.stats[name].weight == stat.weight


def test_bf16_is_as_near_as_bf16_can_be():
    """Products of 8 bits on both sides: within 2 % of the largest gradient, the loss within 0.2 %."""
    *values, ids = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_ce(*values, ids)
    wanted = plain(*values, ids)
    assert loss.total.dtype is torch.float32
    assert torch.allclose(loss.total, wanted.total, rtol=2e-3)
    ours, theirs = (torch.autograd.grad(one.total, values) for one in (loss, wanted))
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype is torch.float32
        assert torch.allclose(a, b, atol=2e-2 * float(b.abs().max()))


def test_gradients_are_the_derivatives():
    x, weight, bias, ids = inputs(torch.float64)
    assert torch.autograd.gradcheck(
        lambda *values: linear_ce(*values, ids[:30]).total, (x[:30].detach().requires_grad_(), weight, bias)
    )


def test_only_what_is_trained_has_a_gradient():
    x, weight, _, ids = inputs()
    loss = linear_ce(x, weight.detach(), None, ids)
    (ours,) = torch.autograd.grad(loss.total, (x,))
    (theirs,) = torch.autograd.grad(plain(x, weight, 0.0, ids).total, (x,))
    assert torch.allclose(ours, theirs, atol=1e-6)


class Sizes(TorchDispatchMode):
    """The largest tensor that any operation makes."""

    most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else [out]:
            self.most = max(self.most, one.numel() if isinstance(one, torch.Tensor) else 0)
        return out


@pytest.mark.parametrize("training", [True, False])
def test_all_logits_never_exist(training):
    *values, ids = inputs()
    with Sizes() as sizes, torch.set_grad_enabled(training):
        loss = linear_ce(*values, ids)
        if training:
            loss.total.backward()
    assert sizes.most == 13 * G * V < M * G * V
    assert loss.total.requires_grad is training


def test_what_is_compiled_is_the_same():
    *values, ids = inputs()
    compare(torch.compile(linear_ce, backend="aot_eager")(*values, ids), plain(*values, ids), values, 1e-6)


@pytest.mark.parametrize(
    "head", [lambda: CodeHead(D, G, V), lambda: CosineHead(D, 1, G * V, width=6, temperature=0.1),
             lambda: CosineHead(D, G, V, width=6, temperature=0.1)],
)  # fmt: skip
def test_heads_give_the_loss_of_their_logits(head):
    head = head()
    x, *_, ids = inputs()
    ids = ids[:, : head(x).size(1)]
    values = [x, *head.parameters()]
    compare(head.cross_entropy(x, ids), masked_ce(head(x), ids), values, 1e-5)
    empty = head.cross_entropy(x[:0], ids[:0])
    empty.total.backward()
    assert (empty.count, float(empty.total.detach())) == (0, 0.0)


@pytest.mark.parametrize("codes", [4096, 5 * 1024, 4097, 7])
def test_likeliest_is_the_first_of_the_greatest(codes):
    scores = torch.randint(9, (3, 2, codes)).float()
    assert torch.equal(likeliest(scores), scores.argmax(-1))
    scores[0, 0, codes // 2] = torch.nan
    assert torch.equal(likeliest(scores), scores.argmax(-1))
    assert likeliest(scores[:0]).shape == (0, 2)
    assert 4096 % BLOCK == 0
