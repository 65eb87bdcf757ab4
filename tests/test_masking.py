"""Masks are drawn on the host, cover what they promise, and never touch padding."""

import pytest
import torch

from plugins.masking.block import Block, GridBlock
from plugins.masking.span import Span

MASKS = [Block(Block.Config()), GridBlock(GridBlock.Config()), Span(Span.Config())]


def length_of(masking):
    return masking.cfg.length


@pytest.mark.parametrize("masking", MASKS, ids=lambda m: type(m).__name__)
def test_every_row_that_can_hold_a_block_has_one_and_padding_has_none(masking):
    torch.manual_seed(0)
    block = length_of(masking)
    lengths = torch.tensor([0, 1, block - 1, block, block + 1, 2 * block, 500]).repeat(50)
    mask = masking(lengths, 500)
    assert mask.shape == (len(lengths), 500)
    assert mask.dtype == torch.bool
    assert not mask[torch.arange(500) >= lengths[:, None]].any()
    masked = mask.sum(1)
    assert (masked[lengths >= block] >= block).all()
    assert (masked[lengths < block] == 0).all()


@pytest.mark.parametrize("masking", MASKS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("size", [1, 7, 8, 39, 40, 41, 61, 120])
def test_no_length_is_out_of_range(masking, size):
    """Short rows and rows just above a block: every draw stays inside the row."""
    for seed in range(50):
        torch.manual_seed(seed)
        masking(torch.tensor([size, max(1, size - 3)]), size)


def test_runs_of_masked_frames_are_whole_blocks():
    torch.manual_seed(1)
    mask = GridBlock(GridBlock.Config(prob=0.4, length=10))(torch.tensor([205] * 64), 205)
    edges = torch.nn.functional.pad(mask.int(), (1, 1)).diff(dim=1)
    for row in range(64):
        runs = (edges[row] == -1).nonzero() - (edges[row] == 1).nonzero()
        assert (runs % 10 == 0).all()


@pytest.mark.parametrize(
    ("frames", "low", "high"),
    [(160, 0.25, 0.36), (400, 0.28, 0.36), (1600, 0.29, 0.36)],
)
def test_the_block_mask_covers_a_third_of_long_clips(frames, low, high):
    """1 - .99^40 = .33 away from the edges; short clips cover less."""
    torch.manual_seed(0)
    share = Block(Block.Config())(torch.full((400,), frames), frames).float().mean()
    assert low < share < high


def test_the_grid_covers_its_share():
    torch.manual_seed(0)
    share = GridBlock(GridBlock.Config(prob=0.5))(torch.full((500,), 1000), 1000).float().mean()
    assert 0.48 < share < 0.52


def test_spans_cover_what_wav2vec2_masks():
    torch.manual_seed(0)
    share = Span(Span.Config())(torch.full((500,), 750), 750).float().mean()
    assert 0.46 < share < 0.52  # the paper: about 49 % for starts with p = .065 and ten frames


def test_rows_do_not_depend_on_the_shortest_row_of_the_batch():
    """Each row is masked by its own length, whatever stands beside it."""
    torch.manual_seed(0)
    lengths = torch.tensor([50] + [500] * 200)
    share = Span(Span.Config())(lengths, 500)[1:].float().mean()
    assert share > 0.45
