"""Books in a row: which codes, what they leave, which gradient, and how dead codes come to life."""

import pytest
import torch

from plugins.quantizers.ema import EMA
from plugins.quantizers.residual import Residual, Reviving
from research import registry
from research.compose import compose_config
from research.errors import HarkError
from research.model import assemble
from tests.reference.quantizers import begin_again, residual_ids

registry.load_plugins()
DIM = 6


def made(**settings):
    torch.manual_seed(0)
    return Residual(Residual.Config(**({"books": 3, "codes": 5} | settings)), dim_in=DIM)


def inputs(size=40, seed=1):
    return torch.randn(size, DIM, generator=torch.Generator().manual_seed(seed))


def test_ids_and_vectors_are_those_of_the_plain_version():
    quantizer, x = made(), inputs()
    codes = quantizer(x.view(8, 5, DIM))
    assert codes.ids.shape == (8, 5, 3)
    books = [stage.codebook for stage in quantizer.stages]
    for m, row in enumerate(x):
        ids, left = residual_ids(row, books)
        assert codes.ids.view(-1, 3)[m].tolist() == ids
        torch.testing.assert_close(codes.vectors.view(-1, DIM)[m], row - left, rtol=0, atol=1e-6)


def test_the_gradient_goes_straight_through_and_the_penalty_draws_inputs_to_codes():
    quantizer, x = made(), inputs().requires_grad_()
    codes = quantizer(x)
    upstream = torch.randn(codes.vectors.shape)
    (straight,) = torch.autograd.grad(codes.vectors, x, upstream, retain_graph=True)
    assert torch.equal(straight, upstream)
    (drawn,) = torch.autograd.grad(codes.penalty, x)
    away = (x - codes.vectors).detach()
    assert float(codes.penalty.detach()) == pytest.approx(float(away.square().mean()), rel=1e-5)
    torch.testing.assert_close(drawn, 2 * away / away.numel())
    assert not list(quantizer.parameters())


def test_dead_codes_begin_again_at_random_inputs_as_in_the_plain_version():
    stage = Reviving(EMA.Config(codes=6, decay=0.5), dim_in=DIM).train()
    weight, book = torch.tensor([10.0, 1e-6, 3.0, 0.5, 6.0, 0.01]), stage.codebook.clone()
    stage.weight.copy_(2 * weight)  # a step without inputs of their own halves them
    stage.drawn[:4] = torch.cat([torch.arange(4.0)[:, None] / 4, inputs(4)], 1)
    stage.on_step_end(0)
    wanted_book, wanted_weight = begin_again(list(book), weight.tolist(), list(inputs(4)), 0.5)
    assert wanted_weight.count(0.0) == 2
    torch.testing.assert_close(stage.codebook, torch.stack(wanted_book))
    torch.testing.assert_close(stage.weight, torch.tensor(wanted_weight))


def test_a_codebook_fills_up_and_each_book_leaves_less():
    quantizer = made(books=3, codes=32, decay=0.9).train()
    for step in range(60):
        quantizer(inputs(500, seed=step))
        for stage in quantizer.stages:
            stage.on_step_end(step)
    x, errors = inputs(2000, seed=99), []
    left = x
    for stage in quantizer.eval().stages:
        codes = stage(left)
        assert codes.ids.unique().numel() >= 28
        left = left - codes.vectors
        errors.append(float(left.square().mean()))
    assert errors[0] < 0.55  # of 1; the best 32 codes of 6 dimensions leave about 0.47
    assert errors[2] < 0.75 * errors[1] < 0.75**2 * errors[0]


def test_without_inputs_nothing_moves():
    quantizer = made().train()
    before = {key: value.clone() for key, value in quantizer.state_dict().items()}
    assert float(quantizer(torch.zeros(0, DIM)).penalty) == 0
    for stage in quantizer.stages:
        stage.on_step_end(1)
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"books": 0}, "quantizer.books=0"),
        ({"codes": 1}, "quantizer.codes=1"),
        ({"decay": 1.0}, "quantizer.decay"),
    ],
)
def test_values_that_cannot_be_are_refused(settings, says):
    with pytest.raises(HarkError, match=says):
        made(**settings)


@pytest.mark.parametrize("objective", ["nest", "wav2vec2"])
def test_it_goes_with_objectives_of_ids_and_of_vectors(objective):
    example = [o for o in registry.find("objective", objective).example if not o.startswith("quantizer")]
    chosen = [
        f"objective={objective}",
        *example,
        "quantizer=residual",
        "quantizer.books=2",
        "quantizer.codes=8",
    ]
    model = assemble(compose_config(["data.train=[]", *chosen]).config)
    assert (model.quantizer.books, model.quantizer.codes) == (2, 8)
