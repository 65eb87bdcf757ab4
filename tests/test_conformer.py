"""FastConformer and Conformer: sizes, padding, state, precision."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.nn.attention import Positions
from research.nn.conformer import ConvNorm
from research.nn.dropout import Dropout, dropout

registry.load_plugins()

SIZES = {  # encoder parameters with 80 mel bands
    "fastconformer_small": 12_600_240,
    "fastconformer_medium": 26_128_640,
    "fastconformer_large": 108_762_112,
    "fastconformer_large18": 115_074_560,
    "fastconformer_xlarge": 607_306_752,
    "fastconformer_xxlarge": 1_060_543_488,
    "conformer_large": 121_435_136,
}
DRY = {"dropout": 0.0, "dropout_pre": 0.0, "dropout_att": 0.0}


def encoder(name="fastconformer_tiny", seed=0, **changes):
    torch.manual_seed(seed)
    return registry.build(dataclasses.replace(registry.config_of("encoder", name), **changes), dim_in=80)


def feats(*lengths, seed=0):
    """Frames (B, S, 80) with large values in the padding."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), max(lengths), 80, generator=g)
    seq = Seq(x, torch.tensor(lengths))
    return seq.replace(torch.where(seq.valid[..., None], x, 1e3))


def row(seq, i):
    return Seq(seq.x[i : i + 1, : seq.lengths[i]], seq.lengths[i : i + 1])


def warmed(model):
    """Running statistics as after some training, then eval mode."""
    for step in range(3):
        model(feats(120, 77, seed=step))
        model.on_step_end(step)
    return model.eval()


@pytest.mark.parametrize("name", SIZES)
def test_presets_have_the_published_sizes(name):
    with torch.device("meta"):
        model = encoder(name)
    assert sum(p.numel() for p in model.parameters()) == SIZES[name]


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("name", ["fastconformer_tiny", "conformer_tiny"])
def test_subsampling_reads_no_padding(name, stride):
    model = encoder(name, stride=stride)
    together = feats(97, 41, 40, 39, 7, 1)
    embedded = model.embed(together)
    assert embedded.lengths.tolist() == [-(-n // stride) for n in together.lengths.tolist()]
    for i, length in enumerate(embedded.lengths):
        alone = plain_subsampling(model.subsampling, row(together, i).x)
        torch.testing.assert_close(embedded.x[i, :length], alone[0], rtol=0, atol=1e-5)


def plain_subsampling(module, x):
    """The same weights in the plainest form, for one row without padding."""
    x = x[:, None]  # (1, 1, S, F)
    for stage in module.stages:
        for conv in stage if isinstance(stage, nn.Sequential) else [stage]:
            x = F.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding, groups=conv.groups)
        x = x.relu()
    return module.out(x.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("name", ["fastconformer_tiny", "conformer_tiny"])
def test_gradients_read_no_padding(name):
    """Gradients of a padded batch are those of its rows, summed: for weights and for the input."""
    model = encoder(name, conv_norm=ConvNorm.layer, **DRY)
    together = feats(97, 41, 16)
    together.x.requires_grad_()

    def gradients(seq):
        out = model(seq).last
        out.x.mul(out.valid[..., None]).square().sum().backward()

    for i in range(3):
        gradients(row(together, i))
    expected = {n: p.grad.clone() for n, p in model.named_parameters()}
    expected_input = together.x.grad.clone()
    model.zero_grad()
    together.x.grad = None
    gradients(together)
    for n, p in model.named_parameters():
        torch.testing.assert_close(p.grad, expected[n], rtol=1e-3, atol=2e-3, msg=n)
    torch.testing.assert_close(together.x.grad, expected_input, rtol=1e-3, atol=1e-4)
    assert not together.x.grad[~together.valid].any()


@pytest.mark.parametrize("context", [(-1, -1), (3, 2), (8, -1)])
@pytest.mark.parametrize("norm", list(ConvNorm))
@pytest.mark.parametrize("positions", list(Positions))
def test_padding_changes_nothing(positions, norm, context):
    model = warmed(encoder(positions=positions, conv_norm=norm, context=context))
    together = feats(650, 313, 9, 1)
    with torch.no_grad():
        whole = model(together, [0, 1, 2])
        for i, length in enumerate(whole.last.lengths):
            alone = model(row(together, i), [0, 1, 2])
            for a, b in zip([whole.last.x, *whole.layers], [alone.last.x, *alone.layers], strict=True):
                torch.testing.assert_close(a[i, :length], b[0], rtol=0, atol=2e-5)


def test_layers_are_what_blocks_read_and_give():
    model = warmed(encoder())
    x = model.embed(feats(80, 40))
    out = model.context(x, [2, 0, 1])
    assert torch.equal(out.layers[0], out.last.x)
    torch.testing.assert_close(out.layers[1], 8 * x.x)  # xscaling: sqrt(64)
    assert not torch.equal(out.layers[2], out.last.x)
    assert (model.dim, model.depth, model.stride) == (64, 2, 8)
    assert not model.context(x).layers


@pytest.mark.parametrize("lengths", [(0,), (1,), (3, 0), (10, 2)])
@pytest.mark.parametrize("norm", list(ConvNorm))
def test_shortest_rows_give_no_nan(norm, lengths):
    model = encoder(conv_norm=norm)
    seq = Seq(torch.randn(len(lengths), max(1, *lengths), 80), torch.tensor(lengths))
    out = model(seq).last
    out.x.sum().backward()
    model.on_step_end(0)
    assert out.x.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert all(value.isfinite().all() for value in model.state_dict().values())


@pytest.mark.parametrize("positions", list(Positions))
def test_gradients_reach_every_parameter(positions):
    model = encoder(positions=positions)
    model(feats(80, 40)).last.x.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_state_moves_at_the_end_of_a_step_only():
    model = encoder()
    before = copy.deepcopy(model.state_dict())
    model(feats(80, 40)).last.x.sum().backward()
    model(feats(80, 40, seed=1)).last.x.sum().backward()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    model.on_step_end(1)
    moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert len(moved) == 4
    assert all("running" in key for key in moved)


@pytest.mark.parametrize("norm", list(ConvNorm))
def test_activation_checkpointing_changes_nothing(norm):
    def once(checkpoint_layers):
        model = encoder(conv_norm=norm, checkpoint_layers=checkpoint_layers, layer_drop=0.5)
        torch.manual_seed(5)
        model(feats(80, 40)).last.x.square().sum().backward()
        grads = [p.grad for p in model.parameters()]
        model.on_step_end(1)
        return [*grads, *model.state_dict().values()]

    for plain, again in zip(once(False), once(True), strict=True):
        assert torch.equal(plain, again)


def test_layer_drop_skips_whole_rows_and_keeps_the_mean():
    model = encoder(layer_drop=0.25, conv_norm=ConvNorm.layer, **DRY)
    first, last = model.layers
    assert (first.layer_drop, last.layer_drop) == (0.0, 0.25)
    x = model.embed(feats(*[24] * 400))
    inside, out = model.context(x, [1, 2]).layers
    expected = model.eval().context(x, [2]).layers[0]
    skipped = (out == inside).flatten(1).all(1)
    assert 60 < skipped.sum() < 140
    kept = inside + (expected - inside) / 0.75
    torch.testing.assert_close(out[~skipped], kept[~skipped], rtol=0, atol=1e-4)


def test_bf16_stays_close_to_fp32():
    model = warmed(encoder())
    seq = feats(160, 90)
    with torch.no_grad():
        expected = model(seq).last
        with torch.autocast("cpu", torch.bfloat16):
            got = model(seq).last.x
    assert got.dtype is torch.float32  # the residual stream
    assert (got - expected.x)[expected.valid].abs().mean() < 0.02


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"heads": 5}, "encoder.heads=5"),
        ({"heads": 64, "positions": Positions.rope}, "encoder.heads=64"),
        ({"kernel": 8}, "encoder.kernel=8"),
        ({"stride": 3}, "encoder.stride=3"),
        ({"stride": 16}, "encoder.stride=16"),
        ({"context": (-2, 3)}, "encoder.context"),
        ({"conv_norm": ConvNorm.group, "groups": 7}, "encoder.groups=7"),
        ({"dropout": 1.0}, "encoder.dropout=1.0"),
        ({"layer_drop": -0.1}, "encoder.layer_drop=-0.1"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with torch.device("meta"), pytest.raises(HarkError, match=words):
        encoder(**changes)


def test_dropout_keeps_the_mean_and_the_share():
    torch.manual_seed(0)
    y = dropout(torch.ones(1001, 997), 0.1)
    assert (y == 0).float().mean() == pytest.approx(0.1, abs=2e-3)
    assert y.mean() == pytest.approx(1.0, abs=2e-3)
    assert (y == 0).float().mean(0).std() < 0.02  # no column is spared


def test_dropout_is_seeded_and_for_training_only():
    module, x = Dropout(0.5), torch.randn(5, 7, requires_grad=True)
    torch.manual_seed(1)
    first = module(x)
    torch.manual_seed(1)
    assert torch.equal(module(x), first)
    assert not torch.equal(module(x), first)
    (grad,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(grad == 0, first == 0)
    assert module.eval()(x) is x
    assert dropout(x, 0.0) is x


@pytest.mark.slow
def test_a_compiled_training_step_is_the_same():
    def once(compiled):
        model = encoder(**DRY)
        if compiled:
            model.context = torch.compile(model.context)
        out = model(feats(80, 40), [1])
        (out.last.x.square().sum() + out.layers[0].sum()).backward()
        grads = [p.grad for p in model.parameters()]
        model.on_step_end(1)
        return [*grads, *model.state_dict().values()]

    for plain, fused in zip(once(False), once(True), strict=True):
        torch.testing.assert_close(plain, fused, rtol=1e-3, atol=1e-3)
