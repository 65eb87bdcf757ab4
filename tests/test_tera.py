"""TERA against the paper's loss, frame by frame; what is masked and what guessing scores."""

import pytest
import torch

from research.conformance.case import Case, speech
from research.conformance.tools import Fixed
from tests.outputs import agree, scored
from tests.reference import tera


def fixed(model):
    model.masking = Fixed()


def parameters(head):
    first, _, norm, last = head
    return {"w1": first.weight, "b1": first.bias, "gain": norm.weight, "shift": norm.bias, "w2": last.weight, "b2": last.bias}  # fmt: skip


@pytest.mark.parametrize("stride", [2, 8])
def test_loss_and_gradients_are_the_papers(stride):
    """The middle half of an utterance is masked: its ends lie within the frames that become one."""
    model, loss, frames, leaves, _ = scored(
        "tera", f"encoder.stride={stride}", "objective.hidden=24", seconds=(0.43, 0.26), prepare=fixed
    )
    lengths = torch.tensor([len(x) for x in frames])
    masks = Fixed()(lengths, int(lengths.max()))
    head = parameters(model.head)
    total, count = tera.loss(frames, masks, leaves, head, stride=stride)
    assert loss.count == count == int(masks.sum())
    agree(loss.total, total, [*head.values(), *leaves])


def test_guessing_the_mean_scores_as_logged():
    _, loss, frames, *_ = scored("tera", seconds=(0.9,), prepare=fixed)
    (x,) = frames
    masked = x[len(x) // 4 : 3 * len(x) // 4]
    guessed = (masked - x.mean(0)).abs().mean(-1).sum()
    assert loss.stats["mean_l1"].total == pytest.approx(float(guessed), rel=1e-4)


def test_masked_frames_are_silence_to_the_encoder():
    model = Case("objective", "tera").model().eval()
    fixed(model)
    heard = []
    model.encoder.register_forward_pre_hook(lambda _, args: heard.append(args[0]))
    model(speech(model))
    (feats,) = heard
    mask = Fixed()(feats.lengths, feats.x.size(1))
    assert not feats.x[mask].any()
    assert feats.x[~mask & feats.valid].any()


def test_channels_that_a_masking_hides_are_hidden():
    model = Case("objective", "tera").model("masking=channel").eval()
    heard = []
    model.encoder.register_forward_pre_hook(lambda _, args: heard.append(args[0].x))
    model(speech(model))
    silent = (heard[0] == 0).all(1)  # (B, F)
    assert silent.any(1).all()
    assert not silent.all(1).any()
