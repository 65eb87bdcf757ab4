"""WavLM's mixing: what is laid over what, how long, and how loud."""

import pytest
import torch

from plugins.augmentations.mix import Mix
from research.contracts import Batch, Seq
from research.errors import HarkError

LENGTHS = torch.tensor([32_000, 48_000, 40_000, 20_000])


def batch(noise_lengths=None, rows=4):
    source = torch.Generator().manual_seed(0)
    lengths = LENGTHS[:rows]
    audio = (
        torch.randn(rows, int(lengths.max()), generator=source)
        * torch.tensor([0.1, 0.4, 0.02, 1.0])[:rows, None]
    )
    made = Batch.clean(Seq(audio * (torch.arange(audio.size(1)) < lengths[:, None]), lengths.clone()))
    if noise_lengths is not None:
        noise = torch.randn(rows, max(noise_lengths), generator=source)
        made.noise = Seq(noise, torch.tensor(noise_lengths))
    return made


def run(given, seed=0, **choices):
    torch.manual_seed(seed)
    return Mix(Mix.Config(**choices))(given)


def laid(out, row):
    """What was added to a row, and where it begins."""
    added = (out.noisy.x - out.audio.x)[row]
    where = added.nonzero()[:, 0]
    return added[where[0] : where[-1] + 1], int(where[0])


def found(piece, clip):
    """Where a piece is from, and by how much it was multiplied; None when it is of another clip."""
    windows = clip.unfold(0, min(len(piece), 400), 1)
    short = piece[:400]
    cosine = (windows @ short) / (windows.norm(dim=1) * short.norm())
    at = int(cosine.argmax())
    whole = clip[at : at + len(piece)]
    if len(whole) < len(piece):
        return None
    gain = (piece @ whole) / whole.square().sum()
    return (
        (at, float(gain))
        if torch.allclose(piece, gain * whole, atol=1e-4 * float(piece.abs().max()))
        else None
    )


def test_a_piece_of_another_row_lies_over_half_of_a_row_at_most_at_its_level():
    given = batch()
    for seed in range(5):
        out = run(given, seed, prob=1.0)
        assert out.changed.tolist() == [0, 1, 2, 3]
        for row, length in enumerate(LENGTHS.tolist()):
            piece, start = laid(out, row)
            assert len(piece) <= length // 2
            assert start + len(piece) <= length
            others = [other for other in range(4) if other != row and len(piece) <= LENGTHS[other]]
            hits = [
                (other, hit)
                for other in others
                if (hit := found(piece, given.audio.x[other, : LENGTHS[other]]))
            ]
            if not hits:  # of a shorter row that repeats
                assert len(piece) > 20_000
                continue
            [(other, (_, gain))] = hits
            own, second = (given.audio.x[k].square().sum() / LENGTHS[k] for k in (row, other))
            ratio = 10 * torch.log10(own / (gain**2 * second))
            assert -5.01 < ratio < 5.01


def test_noise_comes_from_the_rows_own_clip_and_repeats():
    given = batch([500, 16_000, 40_000, 20_000])
    out = run(given, prob=1.0, noise_prob=1.0, noise_ratio=(3.0, 3.0))
    for row in range(1, 4):
        piece, _ = laid(out, row)
        hit = found(piece[:500], given.noise.x[row, : given.noise.lengths[row]])
        own = given.audio.x[row].square().sum() / LENGTHS[row]
        second = given.noise.x[row, : given.noise.lengths[row]].square().mean()
        assert float(10 * torch.log10(own / (hit[1] ** 2 * second))) == pytest.approx(3.0, abs=1e-3)
    piece, _ = laid(out, 0)
    assert len(piece) > 1000
    assert torch.allclose(piece[:-500], piece[500:], atol=1e-5)


def test_rows_are_chosen_with_their_probability_and_others_stay_bit_identical():
    given = batch()
    counts = [len(run(given, seed, prob=0.25).changed) for seed in range(400)]
    assert 0.2 < sum(counts) / 1600 < 0.3
    out = run(given, 1, prob=0.5)
    rest = [row for row in range(4) if row not in out.changed.tolist()]
    assert rest
    assert torch.equal(out.noisy.x[rest], given.audio.x[rest])


def test_one_row_alone_is_mixed_with_noise_or_not_at_all():
    given = batch(rows=1)
    assert run(given, prob=1.0) is given
    noisy = run(batch([8000], rows=1), prob=1.0, noise_prob=0.0)
    assert noisy.changed.tolist() == [0]


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"prob": 1.5}, "augmentation.prob=1.5"),
        ({"speech_ratio": (5.0, -5.0)}, r"augmentation.speech_ratio=\[5.0,-5.0\]"),
        ({"longest": 0.0}, "augmentation.longest=0: a share is above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(choice, said):
    with pytest.raises(HarkError, match=said):
        run(batch(), **choice)
