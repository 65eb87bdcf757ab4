"""research.nn.linear is torch's linear layer, but for rounding."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.nn import linear as ours
from research.nn.linear import Linear, linear


def both(*, bias: bool) -> tuple[Linear, nn.Linear]:
    torch.manual_seed(0)
    one, other = Linear(384, 640, bias=bias), nn.Linear(384, 640, bias=bias)
    other.load_state_dict(one.state_dict())
    return one, other


def worked(layer: nn.Module, x: Tensor, grad: Tensor) -> list[Tensor]:
    """Output, and gradients of the input and of every parameter."""
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(grad.expand_as(y))
    assert x.grad is not None
    return [y, x.grad, *(p.grad for p in layer.parameters() if p.grad is not None)]


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the products that oneDNN was asked for, as a list that grows."""
    counted: list[int] = []
    inner = ours.product

    def counting(*args: Tensor) -> Tensor:
        counted.append(1)
        return inner(*args)

    monkeypatch.setattr(ours, "product", counting)
    return counted


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(700, 384), (7, 100, 384), (2, 5, 70, 384)])
def test_it_equals_torchs(shape: tuple[int, ...], products: list[int], *, bias: bool) -> None:
    one, other = both(bias=bias)
    x, grad = torch.randn(shape), torch.randn(*shape[:-1], 640)
    for found, wanted in zip(worked(one, x, grad), worked(other, x, grad), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)  # sums of up to 700 products
    assert len(products) == 3


@pytest.mark.parametrize(
    ("x", "grad"),
    [
        (torch.randn(384, 700).t(), torch.randn(640, 700).t()),
        (torch.randn(700, 768)[:, ::2], torch.ones(())),
        (torch.randn(1, 384).expand(700, 384), torch.randn(700, 1)),
    ],
    ids=["transposed", "of a sum", "expanded"],
)
def test_strides_do_not_matter(x: Tensor, grad: Tensor, products: list[int]) -> None:
    one, other = both(bias=True)
    for found, wanted in zip(worked(one, x, grad), worked(other, x, grad), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)  # sums of up to 700 products
    assert len(products) == 3


def test_only_what_is_asked_for_is_computed(products: list[int]) -> None:
    one, _ = both(bias=True)
    one.weight.requires_grad_(False)
    one(torch.randn(700, 384)).sum().backward()
    assert len(products) == 1  # nothing but the bias learns
    assert one.weight.grad is None
    assert one.bias.grad is not None


def test_small_other_dtypes_and_autocast_are_torchs(products: list[int]) -> None:
    one, other = both(bias=True)
    x = torch.randn(700, 384)
    assert torch.equal(one(x[:2]), other(x[:2]))
    assert torch.equal(linear(x.double(), one.weight.double()), F.linear(x.double(), other.weight.double()))
    with torch.autocast("cpu", torch.bfloat16):
        low = one(x)
        assert low.dtype is torch.bfloat16
        assert torch.equal(low, other(x))
    assert one(x[:0]).shape == (0, 640)
    assert torch.equal(linear(x[0], one.weight.repeat(30, 1)), F.linear(x[0], other.weight.repeat(30, 1)))
    assert not products


def test_the_same_twice() -> None:
    """A run that resumes has the same bits: oneDNN's sums have one order."""
    one, _ = both(bias=True)
    x, grad = torch.randn(700, 384), torch.randn(700, 640)
    first = worked(one, x, grad)
    one.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(first, worked(one, x, grad), strict=True))
