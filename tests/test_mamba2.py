"""Mamba-2: chunks against one frame after the other, both ways, Hugging Face's, and numbers at their limits."""

import pytest
import torch

from plugins.encoders.mamba2 import Direction
from research import registry
from research.contracts import Seq
from research.errors import HarkError
from research.nn.ssd import Mixer, scan, spans
from tests.reference import mamba2 as plain
from tests.test_causal import encoder, heard

registry.load_plugins()


def inputs(size, scale=1.0, batch=2, heads=3):
    torch.manual_seed(0)
    x = torch.randn(batch, size, heads, 4, requires_grad=True)
    decay = (-scale * torch.rand(batch, size, heads)).requires_grad_()
    write, read = (torch.randn(batch, size, 5, requires_grad=True) for _ in range(2))
    return x, decay, write, read


@pytest.mark.parametrize("scale", [0.02, 1.0, 30.0])
@pytest.mark.parametrize("size", [1, 7, 8, 37])
def test_chunks_equal_the_recurrence(size, scale):
    tensors = inputs(size, scale)
    y = scan(*tensors, chunk=8)
    exact = [t.detach().double().requires_grad_() for t in tensors]
    wanted = torch.stack([plain.recurrence(*(t[i] for t in exact)) for i in range(2)])
    torch.testing.assert_close(y.double(), wanted, rtol=1e-5, atol=1e-5)
    direction = torch.randn(y.shape)
    got = torch.autograd.grad((y * direction).sum(), tensors)
    for a, b in zip(got, torch.autograd.grad((wanted * direction).sum(), exact), strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


def test_a_chunk_as_long_as_all_frames_gives_the_same():
    tensors = inputs(130)
    torch.testing.assert_close(scan(*tensors), scan(*tensors, chunk=130), rtol=1e-5, atol=1e-5)


def test_spans_are_sums_of_what_lies_between():
    x = torch.randn(2, 6)
    sums = spans(x)
    for i in range(6):
        for j in range(6):
            wanted = x[:, j + 1 : i + 1].sum(1) if j <= i else torch.full((2,), -torch.inf)
            torch.testing.assert_close(sums[:, i, j], wanted)


def test_numbers_at_their_limits_are_finite():
    """A state that forgets at once, or never, and a thousand frames of each."""
    x, _, write, read = inputs(1000)
    for rate in (0.0, 1e-7, 50.0, 1e5):
        decay = torch.full((2, 1000, 3), -rate, requires_grad=True)
        y = scan(x, decay, write, read)
        grads = torch.autograd.grad(y.sum(), [x, decay, write, read])
        assert all(t.isfinite().all() for t in (y, *grads))


def test_the_recurrence_is_fp32_under_autocast():
    tensors = inputs(40)
    with torch.autocast("cpu", torch.bfloat16):
        y = scan(*tensors, chunk=8)
    assert torch.equal(y, scan(*tensors, chunk=8))


@pytest.mark.parametrize("direction", list(Direction))
def test_equals_its_plain_form(direction):
    model = encoder("mamba2_tiny", dim=16, head_dim=8, state=6, channels=8, direction=direction)
    torch.manual_seed(3)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x, lengths = torch.randn(2, 11, 16, requires_grad=True), [11, 7]
    got = model.context(Seq(x, torch.tensor(lengths)), [1, 2]).layers
    weights = dict(model.named_parameters())
    both = direction is Direction.both
    expected = [
        plain.encode(weights, x[i, :n], depth=2, heads=4, state=6, both=both) for i, n in enumerate(lengths)
    ]
    for layer in range(2):
        for i, n in enumerate(lengths):
            torch.testing.assert_close(got[layer][i, :n], expected[i][layer], rtol=0, atol=1e-5)
    leaves = [x, *model.layers.parameters(), model.norm.weight]
    weight = torch.randn(2, 11, 16)
    mine = torch.autograd.grad(
        sum((got[1][i, :n] * weight[i, :n]).sum() for i, n in enumerate(lengths)), leaves
    )
    wanted = torch.autograd.grad(
        sum((expected[i][1] * weight[i, :n]).sum() for i, n in enumerate(lengths)), leaves
    )
    for a, b in zip(mine, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_a_mixer_is_hugging_faces():
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(
        num_heads=4, head_dim=8, hidden_size=16, state_size=6, n_groups=1, chunk_size=8, num_hidden_layers=1
    )
    torch.manual_seed(0)
    theirs = Mamba2Mixer(config, layer_idx=0)
    theirs.norm.variance_epsilon = 1e-5  # theirs is 1e-6, the paper's code has 1e-5
    mine = Mixer(16, inner=32, head_dim=8, state=6, kernel=4)
    with torch.no_grad():
        for name, p in {
            "in_proj.weight": mine.up.weight,
            "conv1d.weight": mine.depthwise.weight,
            "conv1d.bias": mine.depthwise.bias,
            "dt_bias": mine.step_bias,
            "A_log": mine.rate,
            "D": mine.skip,
            "norm.weight": mine.scale,
            "out_proj.weight": mine.down.weight,
        }.items():
            theirs.get_parameter(name).copy_(p.view(theirs.get_parameter(name).shape))
    x = torch.randn(2, 21, 16)
    valid = torch.ones(2, 21, dtype=torch.bool)
    torch.testing.assert_close(mine(x, valid), theirs.torch_forward(x), rtol=1e-4, atol=1e-5)


def test_one_direction_hears_nothing_ahead_and_two_hear_all():
    causal = encoder("mamba2_tiny_causal", channels=8)
    assert causal.ahead == 0
    assert heard(causal, 9) == 0
    whole = encoder("mamba2_tiny", channels=8)
    assert whole.ahead is None
    assert heard(whole, 9) == 8


@pytest.mark.parametrize("length", [1, 9, 40])
def test_the_other_direction_starts_at_the_end_of_each_row(length):
    model = encoder("mamba2_tiny", channels=8)
    batch = Seq(100 * torch.randn(2, 40, 64), torch.tensor([40, length]))
    alone = model.context(Seq(batch.x[1:, :length], batch.lengths[1:])).last.x
    torch.testing.assert_close(model.context(batch).last.x[1:, :length], alone, rtol=0, atol=1e-4)


def test_presets_have_the_published_size():
    """mamba2-130m has 128,989,632 parameters, of which a table of 50,288 words is no block."""
    with torch.device("meta"):
        model = encoder("mamba2_base_causal")
    blocks = [*model.layers.parameters(), *model.norm.parameters()]
    assert sum(p.numel() for p in blocks) == 128_989_632 - 50_288 * 768


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head_dim": 24}, "head_dim=24"),
        ({"stride": 3}, "stride=3"),
        ({"state": 0}, "state=0"),
        ({"dropout": 1.0}, "dropout=1.0"),
    ],
)
def test_impossible_settings_are_refused(changes, words):
    with torch.device("meta"), pytest.raises(HarkError, match=words):
        encoder("mamba2_tiny", **changes)


def test_recomputed_layers_give_the_same_gradients():
    grads = []
    for again in (False, True):
        model = encoder("mamba2_tiny", channels=8, checkpoint_layers=again, layer_drop=0.3).train()
        torch.manual_seed(2)
        model(Seq(torch.randn(3, 60, 16), torch.tensor([60, 33, 8]))).last.x.square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))
