"""Spans of every kind of length: where they lie, how long they are, how much they cover."""

import dataclasses

import pytest
import torch

from plugins.masking.span import Lengths, Span
from research import registry
from research.errors import HarkError
from tests.reference.masking import span_mask

registry.load_plugins()
KINDS = list(Lengths)


def span(**choices):
    return Span(Span.Config(**choices))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.value)
def test_masks_are_those_of_the_plain_version(kind):
    masking, lengths = (
        span(lengths=kind, length=4, shortest=2, prob=0.5),
        torch.tensor([40, 23, 9, 4, 2, 1, 0]),
    )
    for seed in range(20):
        torch.manual_seed(seed)
        mask = masking(lengths, 40)
        torch.manual_seed(seed)
        spans = masking.draw(lengths, 40)
        more, draw = torch.rand(7), torch.rand(7, 40)
        for row, length in enumerate(lengths.tolist()):
            fit = sum(place + int(spans[row, place]) <= length for place in range(40))
            wanted = min(max(1, int(0.5 * length / 4 + more[row])), fit)
            wanted_mask = span_mask(draw[row].tolist(), spans[row].tolist(), length, wanted)
            assert torch.equal(mask[row], wanted_mask)


@pytest.mark.parametrize("kind", KINDS[1:], ids=lambda kind: kind.value)
def test_every_row_that_has_frames_has_a_span_of_at_least_the_shortest(kind):
    masking, lengths = span(lengths=kind, shortest=3), torch.tensor([0, 1, 2, 3, 4, 9, 10, 100]).repeat(30)
    torch.manual_seed(0)
    masked = masking(lengths, 100).sum(1)
    assert (masked[lengths >= 3] >= 3).all()
    assert (masked[lengths < 3] == 0).all()


def test_lengths_are_drawn_as_they_are_named():
    rows, size = torch.full((200,), 1000), 100
    torch.manual_seed(0)
    drawn = {kind: span(lengths=kind).draw(rows, size).double() for kind in KINDS}
    assert (drawn[Lengths.static] == 10).all()
    uniform = drawn[Lengths.uniform].flatten().long()
    shares = uniform.bincount(minlength=21) / uniform.numel()
    assert shares[0] == 0
    assert (shares[1:21] - 1 / 20).abs().max() < 0.005
    normal, poisson = drawn[Lengths.normal], drawn[Lengths.poisson]
    assert normal.mean() == pytest.approx(10, abs=0.1)
    assert normal.std() == pytest.approx((9 + 1 / 12) ** 0.5, abs=0.1)  # rounding adds 1 / 12
    assert poisson.mean() == pytest.approx(10, abs=0.1)
    assert poisson.var() == pytest.approx(10, abs=0.3)


@pytest.mark.parametrize("name", ["span", "span_normal", "span_poisson", "span_uniform"])
def test_every_kind_covers_about_what_wav2vec2_masks(name):
    masking = registry.build(registry.config_of("masking", name))
    torch.manual_seed(0)
    share = masking(torch.full((500,), 750), 750).float().mean()
    assert 0.44 < share < 0.53


def test_a_static_span_is_left_out_of_rows_that_are_shorter():
    torch.manual_seed(0)
    assert span(length=10)(torch.tensor([9, 10]), 12).sum(1).tolist() == [0, 10]


def test_random_is_each_frame_by_itself():
    masking = registry.build(registry.config_of("masking", "random"))
    torch.manual_seed(0)
    mask = masking(torch.tensor([400] * 300 + [2] * 50), 400)
    assert mask[:300].float().mean() == pytest.approx(0.15, abs=0.01)
    both = (mask[:300, 1:] & mask[:300, :-1]).float().mean()
    assert both == pytest.approx(0.15**2, abs=0.003)  # neighbours are independent
    assert mask[300:].any(1).all()


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"prob": 1.5}, "masking.prob=1.5"),
        ({"shortest": 0}, "masking.shortest=0"),
        ({"shortest": 11}, r"masking.shortest=11, masking.length=10"),
        ({"deviation": -1.0}, "masking.deviation=-1"),
    ],
)
def test_values_that_cannot_be_are_refused(choices, says):
    with pytest.raises(HarkError, match=says):
        Span(dataclasses.replace(Span.Config(), **choices))
