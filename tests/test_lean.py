"""What is computed again, in place or by hand to save memory and time equals the plain way, loss and gradients."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from research.contracts import Seq
from research.nn.attention import ATTENTION, Positions, lay_out
from research.nn.dropout import dropout, keep, kept
from research.nn.linear import Linear
from research.nn.norm import BatchNorm, GroupNorm
from research.nn.strided import strided
from research.nn.subsampling import Striding, depthwise_striding
from research.nn.swish import SwishLinear

P = 0.1


def worked(module: nn.Module, forward: Callable[[Tensor], Tensor], x: Tensor) -> list[Tensor]:
    """Output, and gradients of the input and of all parameters, from the same draws every time."""
    x = x.detach().requires_grad_()
    module.zero_grad()
    torch.manual_seed(5)
    y = forward(x)
    y.square().sum().backward()
    grads = [p.grad for p in module.parameters()]
    assert x.grad is not None
    return [y.detach(), x.grad, *(grad.clone() for grad in grads if grad is not None)]


def agree(found: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert float((a - b).abs().max()) <= tolerance * float(b.abs().max())


@pytest.mark.parametrize("bias", [True, False])
def test_swish_that_is_computed_again(*, bias: bool) -> None:
    torch.manual_seed(0)
    layer = SwishLinear(768, 192, bias=bias, dropout=P)

    def plain(x: Tensor) -> Tensor:
        return F.linear(dropout(F.silu(x), P), layer.weight, layer.bias)

    x = torch.randn(3, 100, 768)
    agree(worked(layer, layer, x), worked(layer, plain, x), 1e-6)


def test_swish_in_bf16_is_the_plain_way() -> None:
    layer, x = SwishLinear(768, 192, bias=True, dropout=P), torch.randn(3, 100, 768)

    def plain(x: Tensor) -> Tensor:
        return F.linear(dropout(F.silu(x), P), layer.weight, layer.bias)

    with torch.autocast("cpu", torch.bfloat16):
        for found, wanted in zip(worked(layer, layer, x), worked(layer, plain, x), strict=True):
            assert torch.equal(found, wanted)


def test_swish_keeps_less() -> None:
    """In training what the layer reads is not kept, and masks are bytes."""

    def bytes_of(layer: nn.Module) -> int:
        sizes: dict[int, int] = {}

        def booked(t: Tensor) -> Tensor:
            sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(booked, lambda t: t):
            layer(torch.randn(4, 100, 768, requires_grad=True))
        return sum(sizes.values()) - 4 * 768 * 192  # without the weight

    plain = nn.Sequential(nn.SiLU(), nn.Dropout(P), Linear(768, 192))
    lean = SwishLinear(768, 192, bias=True, dropout=P)
    one = 400 * 768 * 4  # bytes of an activation
    assert bytes_of(lean) <= one * 1.3
    assert bytes_of(plain) >= one * 2.2


@pytest.mark.parametrize("positions", list(Positions))
def test_attention_with_dropout(positions: Positions, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mask put in, the weights are those of torch's own attention; where none is zero, so is the output."""
    torch.manual_seed(0)
    layer = ATTENTION[positions](32, 4, bias=True, dropout=P).train()
    x = Seq(torch.randn(2, 50, 32), torch.tensor([50, 31]))
    layout = lay_out(x, -1, -1, positions, 4)
    monkeypatch.setattr("research.nn.attention.dropout", lambda weights, p: weights if p == P else None)
    found = worked(layer, lambda y: layer(y, layout), x.x)
    agree(found, worked(layer, lambda y: layer.eval()(y, layout), x.x), 1e-5)


def test_relu_in_place() -> None:
    torch.manual_seed(0)
    lean = depthwise_striding(16, 8, 12, 4)
    plain = copy.deepcopy(lean)

    def by_torch(module: Striding, x: Tensor) -> Tensor:
        y = x[:, None]
        for stage in module.stages:
            y = F.relu(stage(y))
        out: Tensor = module.out(y.transpose(1, 2).flatten(2))
        return out

    x, lengths = torch.randn(2, 40, 16), torch.tensor([40, 40])
    found = worked(lean, lambda y: lean(Seq(y, lengths)).x, x)
    agree(found, worked(plain, lambda y: by_torch(plain, y), x), 1e-6)


def test_a_mask_of_bytes() -> None:
    x = torch.randn(70, 30, requires_grad=True)
    mask = keep(x.detach(), 0.25)
    assert mask.dtype is torch.uint8
    y = kept(x, mask, 0.25)
    torch.testing.assert_close(y, x * mask / 0.75)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, mask / 0.75)


def test_chances_and_independence_of_the_mask() -> None:
    torch.manual_seed(3)
    mask = keep(torch.empty(1000, 1000), 0.3).double()
    assert abs(float(mask.mean()) - 0.7) < 0.0025  # 5 deviations of 10^6 draws
    for lag in range(1, 5):  # four elements share 64 bits
        flat = mask.flatten() - mask.mean()
        assert abs(float((flat[lag:] * flat[:-lag]).mean()) / 0.21) < 0.005
    again = keep(torch.empty(1000, 1000), 0.3).double()
    assert 0.415 < float((again != mask).double().mean()) < 0.425  # 2 x 0.3 x 0.7


@pytest.mark.parametrize("low", [False, True], ids=["fp32", "bf16"])
def test_batch_norm_by_hand(*, low: bool) -> None:
    """Autograd's gradients through moments of the valid frames, also where padding has a gradient."""
    torch.manual_seed(0)
    norm = BatchNorm(24)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    valid = torch.arange(40) < torch.tensor([40, 0, 17])[:, None]
    x = torch.randn(3, 40, 24).to(torch.bfloat16 if low else torch.float32) + 2

    def by_autograd(x: Tensor) -> Tensor:
        y, inside = x.double(), valid[..., None].double()
        mean = (y * inside).sum((0, 1)) / inside.sum()
        var = ((y - mean) * inside).square().sum((0, 1)) / inside.sum()
        return ((y - mean) * (var + norm.eps).rsqrt() * norm.weight + norm.bias).to(x.dtype)

    found, wanted = (worked(norm, f, x) for f in (lambda y: norm(y, valid), by_autograd))
    agree(found, wanted, 1e-2 if low else 1e-5)


@pytest.mark.parametrize("groups", [24, 6, 1])
@pytest.mark.parametrize("low", [False, True], ids=["fp32", "bf16"])
def test_group_norm_by_hand(*, groups: int, low: bool) -> None:
    """Autograd's gradients through moments of each row's valid frames, also where padding has a gradient."""
    torch.manual_seed(0)
    norm = GroupNorm(24, groups)
    norm.weight.data.normal_()
    norm.bias.data.normal_()
    valid = torch.arange(40) < torch.tensor([40, 5, 17])[:, None]
    x = torch.randn(3, 40, 24).to(torch.bfloat16 if low else torch.float32) + 2

    def by_autograd(x: Tensor) -> Tensor:
        y = x.double().unflatten(2, (groups, -1))
        inside = valid[..., None, None].double()
        count = inside.sum((1, 3), keepdim=True) * y.size(-1)
        mean = (y * inside).sum((1, 3), keepdim=True) / count
        var = ((y - mean) * inside).square().sum((1, 3), keepdim=True) / count
        y = ((y - mean) * (var + norm.eps).rsqrt()).flatten(2)
        return (y * norm.weight + norm.bias).to(x.dtype)

    found, wanted = (worked(norm, f, x) for f in (lambda y: norm(y, valid), by_autograd))
    agree(found, wanted, 1e-2 if low else 2e-5)


def test_a_long_wave_is_normalized_to_the_last_digits() -> None:
    """As torch does, whose sums are sums of pairs."""
    torch.manual_seed(0)
    norm, x = GroupNorm(8, 8), torch.randn(1, 300_000, 8) + 1
    wanted = F.group_norm(x.double().transpose(1, 2), 8, eps=norm.eps).transpose(1, 2)
    found = norm(x, torch.ones(1, 300_000, dtype=torch.bool))
    assert (found - wanted).abs().max() < 3e-6


@pytest.mark.parametrize("of", ["linear", "batch", "group", "strided"])
def test_what_is_differentiated_by_hand_refuses_to_be_differentiated_again(of: str) -> None:
    x, valid = torch.randn(4, 40, 512, requires_grad=True), torch.ones(4, 40, dtype=torch.bool)
    y = {
        "linear": lambda: Linear(512, 64)(x),
        "batch": lambda: BatchNorm(512).train()(x, valid),
        "group": lambda: GroupNorm(512, 8)(x, valid),
        "strided": lambda: strided(x, torch.randn(8, 512, 3, requires_grad=True), None, 2),
    }[of]()
    (gradient,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (5, 1), (3, 4)])
def test_strided_convolutions_are_torchs(*, bias: bool, kernel: int, stride: int) -> None:
    """Also of frames that the last window leaves over, and of a view whose memory is laid out otherwise."""
    torch.manual_seed(0)
    conv = nn.Conv1d(64, 96, kernel, stride, bias=bias)

    def ours(x: Tensor) -> Tensor:
        return strided(x, conv.weight, conv.bias, stride)

    def plain(x: Tensor) -> Tensor:
        return conv(x.transpose(1, 2)).transpose(1, 2)

    for x in (torch.randn(3, 400, 64), torch.randn(3, 64, 401).transpose(1, 2)):
        agree(worked(conv, ours, x), worked(conv, plain, x), 1e-5)
    assert "_Strided" in type(ours(torch.randn(3, 400, 64)).grad_fn).__name__
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), plain(x))
