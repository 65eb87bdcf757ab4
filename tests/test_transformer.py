"""Waveform convolutions and the Transformer behind them, where no other library can be compared with."""

import pytest
import torch
from torch.nn import functional as F

from research import registry
from research.compose import compose_config
from research.conformance.case import Case, signal, speech
from research.contracts import Seq
from research.errors import HarkError
from research.model import assemble, check
from research.nn.transformer import Distances, PositionConv, PositionNorm

registry.load_plugins()


def wave(**options):
    torch.manual_seed(0)
    return registry.build(type(registry.config_of("frontend", "conv_wave"))(channels=8, **options))


def encoder(**options):
    torch.manual_seed(0)
    config = registry.config_of("encoder", "transformer_tiny")
    return registry.build(type(config)(**vars(config) | options), dim_in=16)


def feats(lengths=(40, 17)):
    torch.manual_seed(1)
    return Seq(torch.randn(len(lengths), max(lengths), 16), torch.tensor(lengths))


def test_frames_are_whole_windows_of_400_samples_every_320():
    samples = [0, 1, 399, 400, 719, 720, 16_000, 16_079, 16_080]
    out = wave().eval()(signal([n / 16_000 for n in samples], 16_000))
    assert out.lengths.tolist() == [max(0, (n - 400) // 320 + 1) for n in samples]
    assert out.x.shape == (len(samples), 50, 8)


def test_a_clip_is_normalised_over_its_own_samples():
    audio = signal((0.5, 0.3), 16_000)
    loud = audio.replace((7 * audio.x + 3) * audio.valid)
    frontend = wave(normalize=True).eval()
    torch.testing.assert_close(frontend(loud).x, frontend(audio).x, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 0.0])
def test_the_gradient_of_the_convolutions_is_scaled_and_what_they_give_is_not(scale):
    audio = signal((0.5,), 16_000)
    plain, scaled = wave(grad_scale=1.0), wave(grad_scale=scale)
    for frontend in (plain, scaled):
        frontend(audio).x.square().sum().backward()
    assert torch.equal(plain(audio).x, scaled(audio).x)
    for one, other in zip(plain.parameters(), scaled.parameters(), strict=True):
        torch.testing.assert_close(other.grad, scale * one.grad)


@pytest.mark.parametrize("kernel", [3, 4])
def test_a_position_convolution_is_centred_and_drops_the_last_of_an_even_kernel(kernel):
    """The textbook: frame t of the output reads frames t - K // 2 to t - K // 2 + K - 1."""
    torch.manual_seed(0)
    conv = PositionConv(4, kernel, 2, PositionNorm.weight)
    with torch.no_grad():
        conv.gain += torch.rand_like(conv.gain)
    x = torch.randn(1, 7, 4)
    v = conv.conv.weight.detach()
    weight = v * conv.gain.detach() / v.flatten(0, 1).norm(dim=0)  # one gain and one length for each tap
    padded = F.pad(x, (0, 0, kernel // 2, kernel))
    wanted = torch.zeros(1, 7, 4)
    for t in range(7):
        for group in range(2):
            block = padded[0, t : t + kernel, 2 * group : 2 * group + 2]  # (K, 2)
            for out in (2 * group, 2 * group + 1):
                wanted[0, t, out] = (weight[out].T * block).sum() + conv.conv.bias[out]
    torch.testing.assert_close(conv(x, torch.ones(1, 7, dtype=torch.bool)), F.gelu(wanted))


def test_position_convolutions_in_a_row_read_zeros_after_the_end():
    """From the second on, what the one before gave to padding is not zero by itself."""
    model = encoder(position_layers=3, position_norm=PositionNorm.layer).eval()
    batch = feats()
    together, alone = model(batch).last, model(Seq(batch.x[1:, :17], batch.lengths[1:])).last
    torch.testing.assert_close(together.x[1:, :17], alone.x, atol=1e-5, rtol=1e-5)


def test_distances_near_have_a_bucket_each_and_far_ones_share():
    table = Distances(32, 2, farthest=40)
    with torch.no_grad():
        table.weight.copy_(torch.arange(32.0)[:, None].expand(32, 2))
    bias = table(120)  # (H, T, T)
    assert bias.shape == (2, 120, 120)
    assert bias[0, 100, 93:101].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]  # keys before the query
    assert bias[0, 0, :8].tolist() == [0, 17, 18, 19, 20, 21, 22, 23]  # keys after it
    assert set(bias[0, 0, 40:].tolist()) == {31}
    assert set(bias[0, 119, :79].tolist()) == {15}
    assert torch.equal(bias[0, 5, 30], bias[1, 60, 85])


def test_a_skipped_block_gives_what_it_reads_and_trains_on_nothing():
    model = encoder(layer_drop=0.999, dropout=0.0, dropout_embed=0.0, dropout_att=0.0).train()
    encoded = model(feats(), range(3))
    assert torch.equal(encoded.layers[0], encoded.layers[2])
    encoded.last.x.sum().backward()
    assert all(not parameter.grad.any() for parameter in model.layers.parameters())


def test_blocks_are_skipped_row_by_row_at_their_rate():
    model = encoder(layer_drop=0.5, dropout=0.0, dropout_embed=0.0, dropout_att=0.0, depth=8).train()
    encoded = model(feats((5,) * 64), range(9))
    kept = [(a != b).flatten(1).any(1) for a, b in zip(encoded.layers, encoded.layers[1:], strict=False)]
    assert 0.4 < torch.stack(kept).float().mean() < 0.6


@pytest.mark.parametrize("buckets", [0, 32])
def test_recomputed_layers_give_the_same_gradients(buckets):
    batch = feats()
    grads = []
    for again in (False, True):
        model = encoder(checkpoint_layers=again, buckets=buckets).train()
        torch.manual_seed(2)
        model(batch).last.x.square().sum().backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_the_residual_stream_is_fp32_under_bf16():
    model = encoder(buckets=32).eval()
    with torch.autocast("cpu", torch.bfloat16):
        encoded = model(feats(), range(3))
    assert {layer.dtype for layer in [*encoded.layers, encoded.last.x]} == {torch.float32}
    exact = model(feats()).last.x.detach()
    assert float((encoded.last.x.detach() - exact).abs().max()) < 0.1


@pytest.mark.parametrize(
    "choices",
    [
        ("frontend=conv_wave", "frontend.channels=32", "encoder=fastconformer_tiny", "objective=nest"),
        ("frontend=conv_wave", "frontend.channels=32", "encoder=transformer_tiny", "objective=nest"),
        ("frontend=log_mel", "encoder=transformer_tiny", "objective=nest"),
    ],
)
def test_frontends_and_encoders_go_together(choices):
    model = assemble(compose_config(["data.train=[]", "quantizer.codes=8", *choices]).config)
    loss = model(speech(model, (3.0, 2.0)))
    assert loss.count > 0
    loss.total.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("encoder.heads=5", "encoder.heads=5: does not divide encoder.dim=64"),
        ("encoder.position_groups=5", "encoder.position_groups=5: does not divide"),
        ("encoder.position_layers=-1", "at least 0"),
        ("encoder.context=[5,2] encoder.window=chunked", "chunk"),
        ("encoder.buckets=32 encoder.positions=alibi", "encoder.buckets=32: is for whole"),
        ("encoder.buckets=32 encoder.context=[5,5]", "encoder.buckets=32: is for whole"),
        ("encoder.dim=20 encoder.positions=rope", "encoder.heads=4: rope turns pairs"),
        ("encoder.buckets=30", "encoder.buckets=30: choose a multiple of 4"),
        ("encoder.layer_drop=1.0", "encoder.layer_drop=1.0: choose a share"),
        ("frontend.strides=[5,2]", r"frontend.strides=\[5, 2\]: give one stride for each"),
        ("frontend.channels=0", "at least 1"),
        ("frontend.grad_scale=2.0", "frontend.grad_scale=2.0: choose a factor from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(override, says):
    with pytest.raises(HarkError, match=says):
        check(Case("frontend", "conv_wave").config(*override.split()))
