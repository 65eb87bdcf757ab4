"""The contrastive loss against the paper's, frame by frame; its distractors; rows of any size."""

import pytest
import torch

from research.nn.contrast import contrast, draw, places
from tests.reference.wav2vec import contrastive_loss

COUNTS = torch.tensor([7, 1, 0, 12, 2])
K, TEMPERATURE = 20, 0.1


def inputs(dim=6):
    source = torch.Generator().manual_seed(0)
    size = int(COUNTS.sum())
    h, y = (torch.randn(size, dim, generator=source).requires_grad_() for _ in range(2))
    return h, y, torch.randint(3, (size, 2), generator=source)


def drawn_frames(seed):
    """The distractors that `contrast` draws under a seed, as numbers of frames; none in a row of one frame."""
    row, place = places(COUNTS)
    torch.manual_seed(seed)
    drawn = draw(place, (COUNTS[row] - 1)[:, None], K)
    return row, [
        [] if COUNTS[r] < 2 else (d - p + t).tolist()
        for t, (r, p, d) in enumerate(zip(row, place, drawn, strict=True))
    ]


@pytest.mark.parametrize("coded", [False, True])
def test_loss_and_gradients_are_the_papers(coded):
    h, y, ids = inputs()
    ids = ids if coded else None
    torch.manual_seed(5)
    loss = contrast(h, y, COUNTS, negatives=K, temperature=TEMPERATURE, ids=ids)
    ours = torch.autograd.grad(loss.total, (h, y))
    row, drawn = drawn_frames(5)
    wanted = contrastive_loss(h, y, row.tolist(), drawn, temperature=TEMPERATURE, ids=ids)
    theirs = torch.autograd.grad(wanted, (h, y))
    assert loss.count == len(h)
    assert abs(float((loss.total - wanted).detach())) < 1e-5 * len(h)
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() < 1e-5


def test_distractors_are_all_the_other_frames_of_the_row():
    """Row of 7: each of the 6 others, never the frame itself, never another row's (NeMo draws the positive too)."""
    place = torch.arange(7)
    torch.manual_seed(0)
    drawn = draw(place, torch.full((7, 1), 6), 2000)
    for frame in range(7):
        counts = torch.bincount(drawn[frame], minlength=7)
        assert counts[frame] == 0
        assert counts.sum() == counts[:7].sum() == 2000
        assert (counts[torch.arange(7) != frame] > 250).all()  # 333 each, if uniform


def test_fewer_frames_than_negatives_are_enough():
    """Rows of one, two and no masked frames beside longer ones (NeMo crashes below 100 or when rows differ)."""
    h, y, _ = inputs()
    loss = contrast(h, y, COUNTS, negatives=100, temperature=TEMPERATURE)
    loss.total.backward()
    assert torch.isfinite(loss.total)
    assert torch.isfinite(h.grad).all()
    assert not h.grad[7].any()  # alone in its row: nothing to be told from
    assert h.grad[-1].any()


def test_nothing_masked_is_a_loss_of_zero_with_a_graph():
    h = torch.zeros(0, 4, requires_grad=True)
    loss = contrast(h, h, torch.tensor([0, 0]), negatives=5, temperature=0.1, ids=torch.zeros(0, 2))
    loss.total.backward()
    assert (float(loss.total.detach()), loss.count, h.grad.shape) == (0.0, 0, (0, 4))


def test_collapsed_codes_are_no_success():
    """When all targets have one code, no frame is asked, and the accuracy is 0, not 1."""
    h, y, ids = inputs()
    loss = contrast(h, y, COUNTS, negatives=K, temperature=TEMPERATURE, ids=ids * 0)
    assert float(loss.total.detach()) == 0
    for name in ("contrast_acc", "distractors"):
        stat = loss.stats[name]
        assert float(stat.finish(stat.total / stat.weight)) == 0


def test_perfect_predictions_win():
    _, y, _ = inputs()
    stat = contrast(y, y, COUNTS, negatives=K, temperature=TEMPERATURE).stats["contrast_acc"]
    assert float(stat.finish(stat.total)) == 1
