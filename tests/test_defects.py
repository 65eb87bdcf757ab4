"""Behaviour that hark must not share with what it replaces, where no other test has the subject."""

import pytest
import torch

from research.compose import compose_config
from research.contracts import Batch, Seq
from research.errors import HarkError
from research.model import assemble


@pytest.fixture(scope="module")
def nest():
    config = compose_config(["objective=nest", "encoder=fastconformer_tiny", "quantizer.codes=64"]).config
    return assemble(config).eval()


def clips(seconds, level=0.1, rows=2):
    size = int(seconds * 16_000)
    return Batch.clean(Seq(level * torch.randn(rows, size), torch.full((rows,), size)))


def test_a_batch_without_a_masked_frame_has_a_loss_of_zero_and_not_nan(nest):
    """Clips shorter than a block cannot be masked."""
    loss = nest(clips(0.3))
    assert loss.count == 0
    assert loss.total.item() == 0.0
    loss.total.backward()
    grads = [p.grad for p in nest.parameters() if p.grad is not None]
    assert grads
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_what_is_masked_is_what_was_drawn_and_not_what_looks_like_it(nest, monkeypatch):
    """Digital silence has features of zero everywhere; only the drawn frames count."""
    mask = torch.zeros(2, 200, dtype=torch.bool)
    mask[:, 40:80] = True
    monkeypatch.setattr(nest.masking, "forward", lambda lengths, size: mask[:, :size])
    assert (
        nest(clips(2.0, level=0.0)).count == nest(clips(2.0)).count == 2 * 5
    )  # 40 mel frames are 5 encoder frames


def test_targets_are_those_of_the_clean_signal(nest, monkeypatch):
    """The noisy signal goes into the encoder, never into the quantizer."""
    seen = []
    quantize = nest.quantizer.forward
    monkeypatch.setattr(nest.quantizer, "forward", lambda x: seen.append(x) or quantize(x))
    clean = clips(2.0)
    noisy = Batch(
        clean.audio,
        clean.audio.replace(clean.audio.x + 0.1 * torch.randn_like(clean.audio.x)),
        torch.tensor([0, 1]),
    )
    for batch in (clean, noisy):
        torch.manual_seed(0)
        nest(batch)
    assert torch.equal(seen[0], seen[1])


@pytest.mark.parametrize("key", ["data.valid", "run.name", "encoder.dim"])
def test_null_is_refused_and_never_taken_for_a_value(key):
    with pytest.raises(HarkError, match=f"{key}=null"):
        compose_config([f"{key}=null"])


@pytest.fixture
def masked_after_subsampling():
    overrides = ["objective=w2v_bert", "encoder=fastconformer_tiny", "encoder.stride=4", "masking.length=5"]
    config = compose_config([*overrides, "quantizer=gumbel", "quantizer.codes=8", "masking=span"]).config
    return config, assemble(config)


def test_subsampling_learns_when_the_mask_comes_after_it(masked_after_subsampling):
    """NeMo's post_conv detaches what it masks: its subsampling never gets a gradient."""
    _, model = masked_after_subsampling
    model(clips(2.0)).total.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.subsampling.parameters())


def test_a_mask_after_subsampling_changes_no_config_and_no_names(masked_after_subsampling):
    """NeMo divides the saved block length at every reload, 40 -> 5 -> 0, and renames the subsampling's weights."""
    config, model = masked_after_subsampling
    again = assemble(config)
    assert config.masking.length == again.masking.cfg.length == 5
    before = compose_config(["encoder=fastconformer_tiny", "encoder.stride=4"]).config
    nest = assemble(before)
    assert (
        set(nest.encoder.state_dict()) == set(again.encoder.state_dict()) == set(model.encoder.state_dict())
    )


def test_a_mask_after_subsampling_is_in_frames_of_the_encoder(masked_after_subsampling, monkeypatch):
    """2 s are 50 frames of 40 ms; every masked one of them is a target, and no other."""
    _, model = masked_after_subsampling
    mask = torch.zeros(1, 50, dtype=torch.bool)
    mask[0, 10:17] = True
    asked = []
    monkeypatch.setattr(model.masking, "forward", lambda lengths, size: asked.append((lengths, size)) or mask)
    assert model(clips(2.0, rows=1)).count == 7
    assert asked == [(torch.tensor([50]), 50)]
