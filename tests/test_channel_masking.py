"""Whole channels hidden: which, of which rows, and that objectives do so where they mask."""

import pytest
import torch

from plugins.masking.channel import Channel
from plugins.masking.span import Span
from research import registry
from research.compose import compose_config
from research.conformance.case import speech
from research.contracts import Seq
from research.errors import HarkError
from research.model import assemble
from tests.reference.masking import hide_channels, starts

registry.load_plugins()
LENGTHS = torch.tensor([12, 7, 0, 1])


def frames(dim=40):
    return Seq(torch.randn(4, 12, dim, generator=torch.Generator().manual_seed(0)), LENGTHS)


def test_channels_are_those_of_the_plain_version():
    masking, x = Channel(Channel.Config(channel_prob=0.5, channel_length=6)), frames()
    for seed in range(20):
        torch.manual_seed(seed)
        out = masking.channels(x)
        torch.manual_seed(seed)
        more, draw = torch.rand(4), torch.rand(4, 40)
        for row, length in enumerate(LENGTHS.tolist()):
            wanted = int(0.5 * 40 / 6 + more[row])
            places = starts(draw[row].tolist(), [6] * 40, 40, wanted)
            assert torch.equal(out.x[row], hide_channels(x.x[row], length, places, 6))


def test_frames_are_masked_as_by_span():
    lengths = torch.tensor([90, 50, 3])
    torch.manual_seed(0)
    own = Channel(Channel.Config(length=5))(lengths, 90)
    torch.manual_seed(0)
    assert torch.equal(own, Span(Span.Config(length=5))(lengths, 90))


def test_without_a_share_of_channels_nothing_is_hidden():
    x = frames()
    assert torch.equal(Channel(Channel.Config(channel_prob=0.0)).channels(x).x, x.x)


def test_as_many_are_hidden_as_wav2vec2_hides_when_it_is_tuned():
    masking = registry.build(registry.config_of("masking", "channel_wide"))
    x = Seq(torch.ones(400, 2, 768), torch.full((400,), 2))
    torch.manual_seed(0)
    share = (masking.channels(x).x == 0).float().mean()
    assert 0.36 < share < 0.44  # 6 spans of 64, some of which overlap


@pytest.mark.parametrize("objective", ["nest", "best_rq", "wav2vec2", "mel_contrast"])
def test_an_objective_reads_the_hidden_channels_and_masks_as_before(objective, monkeypatch):
    example = registry.find("objective", objective).example
    own = [o for o in example if not o.startswith("masking")]
    chosen = [f"objective={objective}", *own, "masking=channel", "masking.length=4", "masking.prob=0.5"]
    model = assemble(compose_config(["data.train=[]", *chosen]).config)
    seen = []
    hide = model.hide
    monkeypatch.setattr(model, "hide", lambda x, mask: seen.append((x, mask, hide(x, mask))) or seen[-1][2])
    model(speech(model)).total.backward()
    ((x, mask, read),) = seen
    gone = (read.x == 0).all(1) & (x.x != 0).any(1)  # (B, C)
    assert gone.any()
    assert not gone.all()
    assert mask.any()


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"channel_prob": -0.1}, "masking.channel_prob=-0.1"),
        ({"channel_length": 0}, "masking.channel_length=0"),
        ({"prob": 2.0}, "masking.prob=2"),
    ],
)
def test_values_that_cannot_be_are_refused(choices, says):
    with pytest.raises(HarkError, match=says):
        Channel(Channel.Config(**choices))


def test_a_span_that_is_wider_than_what_is_masked_is_refused():
    with pytest.raises(HarkError, match=r"masking.channel_length=41: what is masked has 40 channels"):
        Channel(Channel.Config(channel_length=41)).channels(frames())
