"""NEST-RQ against the paper's loss, token by token; what holding the last token scores."""

import pytest
import torch

from tests.outputs import agree, scored
from tests.reference import nest_rq

BOOKS = ("quantizer.books=2", "quantizer.codes=7", "quantizer.dim=4")


def pieces_of(model, frames):
    quantizer, r = model.quantizer, model.encoder.stride
    return [nest_rq.tokens(x, quantizer.projection, quantizer.codebook, stride=r) for x in frames]


@pytest.mark.parametrize(("n", "right"), [(1, 0), (3, 0), (2, 3)])
def test_loss_and_gradients_are_the_papers(n, right):
    """Chunks of four frames hear three ahead."""
    chunks = [f"encoder.context=[-1,{right}]", "encoder.window=chunked"] if right else []
    model, loss, frames, leaves, _ = scored("nest_rq", f"objective.tokens={n}", *BOOKS, *chunks)
    pieces, head = pieces_of(model, frames), model.head
    total, count = nest_rq.loss(pieces, leaves, head.weight, head.bias, codes=7, n=n, ahead=right)
    assert loss.count == count > 10
    agree(loss.total, total, [head.weight, head.bias, *leaves])


def test_holding_the_last_token_scores_as_logged():
    model, loss, frames, *_ = scored("nest_rq", "objective.tokens=2", *BOOKS, seconds=(1.2, 0.9))
    right = 0.0
    for tokens in pieces_of(model, frames):
        for t, held in enumerate(tokens):
            for k in (1, 2):
                if t + k < len(tokens):
                    right += sum(a == b for a, b in zip(held, tokens[t + k], strict=True)) / 2
    assert float(loss.stats["hold_acc"].total) == pytest.approx(right)
    assert loss.stats["hold_acc"].weight == loss.count


def test_rows_that_end_early_are_asked_for_less():
    """Three pieces and five: of the next two, the last two frames lack some."""
    from research.nn.future import Future

    future = Future.of(torch.tensor([3, 5]), 6, 1, 2)
    assert future.asked.sum((1, 2)).tolist() == [2 + 1, 2 + 2 + 2 + 1]
    assert future.pieces.tolist() == [1, 2, 2, 4, 5, 5, 6, 6, 7, 7]
    assert future.targets(10 * torch.arange(8)).tolist() == [10, 20, 20, 40, 50, 50, 60, 60, 70, 70]
