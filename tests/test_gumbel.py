"""The Gumbel quantizer against the paper's formulas."""

import pytest
import torch

from plugins.quantizers.gumbel import Gumbel, SharedGumbel
from research import registry
from research.compose import compose_config
from research.errors import HarkError
from research.model import assemble
from tests.reference.wav2vec import diversity_loss, straight_through_gradient

DIM, SIZE = 10, 30


def made(cls=Gumbel, **settings):
    torch.manual_seed(0)
    return cls(cls.Config(books=2, codes=5, dim=6, **settings), dim_in=DIM)


def inputs():
    return torch.randn(SIZE, DIM, generator=torch.Generator().manual_seed(1))


def test_diversity_is_the_papers():
    quantizer, x = made(), 0.3 * inputs()
    logits = quantizer.score(x).unflatten(-1, (2, 5))
    ours, theirs = quantizer(x).penalty, diversity_loss(logits)
    assert abs(float((ours - theirs).detach())) < 1e-5
    a, b = (
        torch.autograd.grad(loss, quantizer.score.weight, retain_graph=True)[0] for loss in (ours, theirs)
    )
    assert (a - b).abs().max() < 1e-5


def test_gradient_goes_straight_through_the_draw():
    quantizer, x = made().train(), inputs()
    logits = quantizer.score(x).detach().unflatten(-1, (2, 5)).requires_grad_()
    torch.manual_seed(3)
    _, hot = quantizer.draw(logits)
    upstream = torch.randn(SIZE, 2, 5)
    hot.backward(upstream)
    torch.manual_seed(3)
    noise = -torch.empty(SIZE, 2, 5).exponential_().log()
    temperature = float(quantizer.temperature)
    for m in range(SIZE):
        for g in range(2):
            wanted = straight_through_gradient(logits[m, g], noise[m, g], temperature, upstream[m, g])
            assert (logits.grad[m, g] - wanted).abs().max() < 1e-5


def test_vectors_are_the_drawn_codes():
    quantizer = made().train()
    torch.manual_seed(0)
    codes = quantizer(inputs())
    rows = [
        torch.cat([quantizer.codebook[g, i] for g, i in enumerate(pair)]) for pair in codes.drawn.tolist()
    ]
    assert torch.allclose(codes.vectors, torch.stack(rows), atol=1e-6)
    assert not torch.equal(codes.drawn, codes.ids)  # ids are the likeliest codes


def test_draws_follow_the_softmax():
    quantizer = made().train()
    logits = torch.tensor([2.0, 0.0, 1.0, -1.0, 0.5]).expand(20_000, 1, 5)
    torch.manual_seed(0)
    ids, hot = quantizer.draw(logits)
    share = torch.bincount(ids[:, 0], minlength=5) / 20_000
    assert (share - logits[0, 0].softmax(0)).abs().max() < 0.02
    assert torch.equal(hot.argmax(-1), ids)


def test_evaluation_takes_the_likeliest_code_and_draws_nothing():
    quantizer = made().eval()
    one, two = quantizer(inputs()), quantizer(inputs())
    assert torch.equal(one.vectors, two.vectors)
    assert torch.equal(one.ids, one.drawn)


def test_temperature_is_a_function_of_the_step():
    quantizer = made()
    assert float(quantizer.temperature) == 2.0
    quantizer.on_step_end(100_000)
    assert float(quantizer.temperature) == pytest.approx(2.0 * 0.999995**100_000, rel=1e-6)
    quantizer.on_step_end(1_000_000)
    assert float(quantizer.temperature) == 0.5


def test_shared_books_choose_from_one_table():
    quantizer = made(SharedGumbel).eval()
    assert quantizer.codebook.shape == (1, 5, 3)
    codes = quantizer(inputs())
    second = quantizer.codebook[0, codes.ids[:, 1]]
    assert torch.equal(codes.vectors[:, 3:], second)


def test_books_that_cannot_share_the_dim_are_refused():
    with pytest.raises(HarkError, match=r"quantizer.dim=7"):
        Gumbel(Gumbel.Config(books=2, dim=7), dim_in=DIM)


def test_nest_refuses_a_quantizer_that_it_would_not_train():
    registry.load_plugins()
    config = compose_config(["objective=nest", "quantizer=gumbel", "encoder=fastconformer_tiny"]).config
    with pytest.raises(HarkError, match=r"type quantizer=random_projection"):
        assemble(config)
