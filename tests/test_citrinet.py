"""Convolutional encoders and the heads behind them: against plain torch, without padding."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.nn.decoder import Decoder, Doubling
from research.nn.norm import BatchNorm
from research.nn.separable import ACTIVATION, Activation, Block, ResidualBlock, SqueezeExcite

registry.load_plugins()

SMALL = {"dim": 16, "repeat": 2, "stages": [[5], [11, 13], [13, 15, 17]]}


def encoder(name="citrinet", **changes):
    return registry.build(dataclasses.replace(registry.config_of("encoder", name), **changes), dim_in=80)


def frames(*lengths, dim=16, seed=0):
    """Frames (B, T, C) with large values in the padding, and which are valid."""
    g = torch.Generator().manual_seed(seed)
    seq = Seq(torch.randn(len(lengths), max(lengths), dim, generator=g), torch.tensor(lengths))
    return torch.where(seq.valid[..., None], seq.x, 1e3), seq.valid


def warmed(module):
    """Norms that are not the identity, in evaluation."""
    g = torch.Generator().manual_seed(1)
    for norm in module.modules():
        if isinstance(norm, BatchNorm):
            for value, low in ((norm.running_mean, -0.5), (norm.running_var, 0.5), (norm.weight, 0.5)):
                value.data.uniform_(low, low + 1, generator=g)
    return module.eval()


def plain_norm(norm, x):  # (1, C, T)
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=1e-3)


def plain_block(block, x, activation, *, residual):
    """The same weights in the plainest form, for one row without padding: (1, C, T) -> (1, C', T')."""
    y = x
    for index, part in enumerate(block.convolutions):
        if index:
            y = ACTIVATION[activation](y)
        kernel = part.depthwise.weight[:, :, 0]  # (C, 1, K)
        y = F.conv1d(y, kernel, stride=part.stride, padding=kernel.size(2) // 2, groups=len(kernel))
        y = plain_norm(part.norm, F.conv1d(y, part.pointwise.weight[..., None]))
    mean = y.mean(2)  # (1, C)
    y = y * block.excite.up(ACTIVATION[activation](block.excite.down(mean))).sigmoid()[..., None]
    if residual:
        beside = F.conv1d(x, block.shortcut.weight[..., None], stride=block.stride)
        y = y + plain_norm(block.shortcut_norm, beside)
    return ACTIVATION[activation](y)


@pytest.mark.parametrize("activation", list(Activation))
@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_is_the_plain_one_on_every_row(activation, stride):
    block = warmed(ResidualBlock(16, 5, activation, repeat=3, stride=stride, dropout=0.1))
    x, valid = frames(23, 8, 1)
    y = block(x, valid)
    for row, length in enumerate((23, 8, 1)):
        alone = plain_block(block, x[row : row + 1, :length].mT, activation, residual=True)
        torch.testing.assert_close(y[row, : -(-length // stride)], alone[0].mT, rtol=1e-4, atol=1e-5)


def test_the_first_block_has_no_residual_and_no_repetition():
    block = warmed(Block(80, 16, 5, Activation.relu))
    x, valid = frames(23, 8, dim=80)
    alone = plain_block(block, x[1:, :8].mT, Activation.relu, residual=False)
    torch.testing.assert_close(block(x, valid)[1, :8], alone[0].mT, rtol=1e-4, atol=1e-5)
    assert len(encoder(**SMALL).front[0].convolutions) == 1


def test_squeeze_excite_takes_the_mean_of_valid_frames():
    excite = SqueezeExcite(16, Activation.relu)
    x, valid = frames(9, 4)
    wider = F.pad(x, (0, 0, 0, 5), value=7.0)
    alone, padded = excite(x[1:, :4], valid[1:, :4]), excite(wider, F.pad(valid, (0, 5)))
    torch.testing.assert_close(padded[1, :4], alone[0])


@pytest.mark.parametrize(
    ("name", "kernels"),
    [
        ("citrinet_1024", [5, 3, 3, 3, 5, 5, 5, 3, 3, 5, 5, 5, 5, 7, 7, 7, 7, 7, 9, 9, 9, 9]),
        ("contextnet", [5] * 22),
    ],
)
def test_presets_have_the_published_blocks(name, kernels):
    with torch.device("meta"):
        model = encoder(name)
    blocks = [*model.front, *model.layers]
    assert [block.convolutions[0].depthwise.kernel_size[1] for block in blocks] == kernels
    assert [len(block.convolutions) for block in blocks] == [1] + [5] * 21
    strided = [1, 7, 14] if name == "citrinet_1024" else [3, 7, 14]
    assert [i for i, block in enumerate(blocks) if block.stride == 2] == strided
    assert all(block.convolutions[-1].stride == block.stride for block in blocks)
    assert all(part.stride == 1 for block in blocks for part in block.convolutions[:-1])
    assert (model.stride, model.dim, model.depth) == (8, 1024, 7)


def test_layers_follow_the_last_halving():
    model = warmed(encoder(**SMALL))
    out = model(Seq(*[frames(40, 17, dim=80)[0], torch.tensor([40, 17])]), [0, 1, 2])
    assert (model.stride, model.depth) == (4, 2)
    assert [y.shape for y in out.layers] == [(2, 10, 16)] * 3
    assert out.last.lengths.tolist() == [10, 5]
    assert torch.equal(out.layers[2], out.last.x)


def test_gradients_of_a_padded_batch_are_those_of_its_rows():
    model = warmed(encoder(**SMALL, dropout=0.0))
    x, valid = frames(61, 18, dim=80)
    lengths = valid.sum(1)

    def gradients(seq):
        out = model(seq).last
        (out.x * out.valid[..., None]).square().sum().backward()

    for row in range(2):
        gradients(Seq(x[row : row + 1, : lengths[row]], lengths[row : row + 1]))
    alone = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    gradients(Seq(x, lengths))
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, alone[name], rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 0}, "encoder.dim=0"),
        ({"stages": [[5]]}, "encoder.stages"),
        ({"stages": [[5], [11]]}, "encoder.stages"),
        ({"stages": [[], [11, 13]]}, "encoder.stages"),
        ({"stages": [[4], [11, 13]]}, "odd"),
        ({"stages": [[5], [0, 13]]}, "1 or more"),
        ({"repeat": 0}, "encoder.repeat=0"),
        ({"dropout": 1.0}, "encoder.dropout=1.0"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with torch.device("meta"), pytest.raises(HarkError, match=words):
        encoder(**changes)


def test_doubling_is_torchs_transposed_convolution():
    module = warmed(Doubling(16))
    x, valid = frames(9, 4)
    y, wide = module(x, valid)
    assert (y.shape, wide.sum(1).tolist()) == ((2, 18, 16), [18, 8])
    for row, length in enumerate((9, 4)):
        plain = nn.ConvTranspose1d(16, 16, 11, stride=2, padding=5, output_padding=1, groups=16)
        plain.weight, plain.bias = nn.Parameter(module.spread.weight[:, :, 0]), module.spread.bias
        z = module.pointwise(plain(x[row : row + 1, :length].mT).mT)  # (1, 2 T, C)
        alone = plain_norm(module.norm, z.mT)[0].mT
        torch.testing.assert_close(y[row, : 2 * length], alone, rtol=1e-4, atol=1e-5)


def test_a_decoder_answers_each_target_from_its_own_frame():
    """Of the targets of one frame no other frame's change reaches more than the kernel allows."""
    decoder = warmed(Decoder(16, 8, 4, upsample=2))
    x, _ = frames(20)
    hit = torch.ones(
        1, 39, dtype=torch.bool
    )  # an odd number of targets: the last one has no piece of its own
    other = x.clone()
    other[0, 10] += 1.0
    lengths = torch.tensor([20])
    change = (decoder(Seq(other, lengths), hit) - decoder(Seq(x, lengths), hit)).abs().sum(1)  # (39,)
    assert not change[:15].any()
    assert not change[26:].any()
    assert (change[20:22] > 0).all()
