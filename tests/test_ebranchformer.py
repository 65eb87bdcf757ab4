"""E-Branchformer against its plain form, its sizes, and how far it hears."""

import dataclasses

import pytest
import torch

from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.nn.attention import Window
from tests.reference import ebranchformer as plain
from tests.test_causal import CAUSAL, CENTRED, encoder, heard

registry.load_plugins()


def small(**changes):
    settings = {
        "dim": 16,
        "heads": 2,
        "kernel": 5,
        "merge_kernel": 3,
        "ff_dim": 24,
        "gate_dim": 20,
        "channels": 8,
    }
    return encoder("ebranchformer_tiny", **settings | changes)


@pytest.mark.parametrize(
    ("context", "convolutions"), [((-1, -1), CENTRED), ((4, 0), CAUSAL), ((3, 2), CENTRED)]
)
def test_equals_its_plain_form(context, convolutions):
    model = small(context=context, convolutions=convolutions)
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))  # biases and gates that start at a constant too
    x = torch.randn(2, 13, 16, requires_grad=True)
    lengths = [13, 8]
    got = model.context(Seq(x, torch.tensor(lengths)), [1, 2]).layers
    weights = dict(model.named_parameters())
    left, right = (None if n < 0 else n for n in context)
    expected = [
        plain.encode(
            weights, 4 * x[i, :n], depth=2, heads=2, left=left, right=right, causal=convolutions is CAUSAL
        )
        for i, n in enumerate(lengths)
    ]
    for layer in range(2):
        for i, n in enumerate(lengths):
            torch.testing.assert_close(got[layer][i, :n], expected[i][layer], rtol=0, atol=1e-5)
    direction = torch.randn(2, 13, 16)
    inputs = [x, *model.layers.parameters()]
    mine = torch.autograd.grad(
        sum((got[1][i, :n] * direction[i, :n]).sum() for i, n in enumerate(lengths)), inputs
    )
    wanted = torch.autograd.grad(
        sum((expected[i][1] * direction[i, :n]).sum() for i, n in enumerate(lengths)), inputs
    )
    for a, b in zip(mine, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("sees", "ahead"),
    [
        (((-1, 0), Window.sliding, CAUSAL), 0),
        (((5, 1), Window.sliding, CAUSAL), 2),
        (((5, 1), Window.sliding, CENTRED), 6),  # the merge reads 1 ahead, the gates 2 more
        (((6, 2), Window.chunked, CAUSAL), 2),
        (((6, 2), Window.chunked, CENTRED), 6),
    ],
)
def test_it_hears_as_far_as_it_says(sees, ahead):
    context, window, convolutions = sees
    model = small(context=context, window=window, convolutions=convolutions)
    with torch.no_grad():
        for block in model.layers:
            block.gated.depthwise.weight.normal_()
    assert model.ahead == ahead
    assert heard(model, 15) == ahead


def test_a_gate_lets_everything_through_at_first():
    gated = small().layers[0].gated
    x, valid = torch.randn(1, 9, 16), torch.ones(1, 9, dtype=torch.bool)
    kept, _ = torch.nn.functional.gelu(gated.up(gated.norm(x))).chunk(2, -1)
    torch.testing.assert_close(gated(x, valid), gated.down(kept), rtol=0, atol=1e-4)


def test_the_large_one_has_the_published_size():
    """Of 148.9 million; the rest is the decoder of that paper."""
    with torch.device("meta"):
        model = registry.build(registry.config_of("encoder", "ebranchformer_large"), dim_in=80)
    assert sum(p.numel() for p in model.parameters()) == 116_269_056


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"merge_kernel": 4}, "encoder.merge_kernel=4"),
        ({"gate_dim": 7}, "gate_dim=7"),
        ({"heads": 3}, "heads=3"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    config = dataclasses.replace(registry.config_of("encoder", "ebranchformer_tiny"), **changes)
    with torch.device("meta"), pytest.raises(HarkError, match=words):
        registry.build(config, dim_in=16)
