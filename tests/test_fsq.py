"""Finite scalar quantization against a plain version: levels, ids, gradients, penalty."""

import pytest
import torch

from plugins.quantizers.fsq import FSQ, RandomFSQ
from research import registry
from research.compose import compose_config
from research.errors import HarkError
from research.model import assemble
from tests.reference.quantizers import fsq_id, fsq_levels, fsq_penalty, fsq_value

registry.load_plugins()
DIM, LEVELS = 10, [5, 4, 2, 3]


def made(cls=FSQ, **settings):
    torch.manual_seed(0)
    return cls(cls.Config(**({"levels": LEVELS, "books": 2} | settings)), dim_in=DIM)


def inputs(size=30):
    return torch.randn(size, DIM, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("cls", [FSQ, RandomFSQ])
def test_ids_and_vectors_are_those_of_the_plain_version(cls):
    quantizer, x = made(cls), 2 * inputs()
    z = (quantizer.project(x) if cls is FSQ else x @ quantizer.projection).detach().unflatten(-1, (2, 4))
    codes = quantizer(x)
    for m in range(len(x)):
        levels = [fsq_levels(z[m, g].tolist(), LEVELS) for g in range(2)]
        assert codes.ids[m].tolist() == [fsq_id(level, LEVELS) for level in levels]
        values = torch.tensor([number for level in levels for number in fsq_value(level, LEVELS)])
        wanted = quantizer.expand(values) if cls is FSQ else values
        torch.testing.assert_close(codes.vectors[m], wanted, rtol=0, atol=1e-5)


def test_every_id_is_of_levels_of_its_own():
    quantizer = made(books=1)
    every = torch.cartesian_prod(*map(torch.arange, LEVELS))  # (V, d)
    assert sorted(quantizer.number(every).tolist()) == list(range(5 * 4 * 2 * 3))
    assert quantizer.codes == 120


def test_the_gradient_goes_straight_through_the_rounding():
    quantizer, x = made(), inputs().requires_grad_()
    codes = quantizer(x)
    upstream = torch.randn(codes.vectors.shape)
    codes.vectors.backward(upstream)
    z = quantizer.project(x).detach().requires_grad_()
    quantizer.expand(z.tanh()).backward(upstream)  # as if nothing were rounded
    wanted = z.grad @ quantizer.project.weight
    torch.testing.assert_close(x.grad, wanted, rtol=0, atol=1e-5)
    assert quantizer.project.weight.grad.any()


def test_the_penalty_is_that_of_the_plain_version():
    quantizer, x = made(books=1), inputs()
    penalty = quantizer(x).penalty
    wanted = fsq_penalty(quantizer.project(x).tolist(), LEVELS)
    assert float(penalty.detach()) == pytest.approx(wanted, abs=1e-5)


def test_the_penalty_spreads_inputs_over_the_levels():
    quantizer, x = made(levels=[5], books=1), inputs(200)
    with torch.no_grad():
        quantizer.project.weight.mul_(0.01)  # all on the middle one
    optimizer = torch.optim.Adam(quantizer.parameters(), 0.05)
    before = quantizer(x)
    for _ in range(200):
        optimizer.zero_grad()
        quantizer(x).penalty.backward()
        optimizer.step()
    after = quantizer(x)
    assert before.ids.unique().tolist() == [2]
    assert after.ids.unique().tolist() == [0, 1, 2, 3, 4]
    assert after.penalty < 0.05 < before.penalty


def test_random_levels_of_normalised_inputs_are_used_about_alike():
    quantizer = RandomFSQ(RandomFSQ.Config(levels=[8, 5], layer_norm=True), dim_in=200)
    x = 7 * torch.randn(20_000, 200, generator=torch.Generator().manual_seed(0)) + 3
    ids = quantizer(x).ids[:, 0]
    for digit, size in ((ids % 8, 8), (ids // 8, 5)):
        share = torch.bincount(digit, minlength=size) / len(ids)
        assert share.min() > 0.4 / size
        assert share.max() < 1.6 / size


def test_random_targets_come_from_their_seed_and_nothing_is_trained():
    x, first = inputs(), made(RandomFSQ)
    torch.manual_seed(5)
    again, other = (RandomFSQ(RandomFSQ.Config(levels=LEVELS, books=2, seed=s), dim_in=DIM) for s in (0, 1))
    assert torch.equal(first(x).ids, again(x).ids)
    assert not torch.equal(first(x).ids, other(x).ids)
    assert not list(first.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(first(x).ids, again(x).ids)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"levels": []}, r"quantizer.levels=\[\]"),
        ({"levels": [5, 1]}, r"quantizer.levels=\[5, 1\]"),
        ({"books": 0}, "quantizer.books=0"),
        ({"levels": [16] * 6}, "are 16777216 codes"),
        ({"dim": 0}, "quantizer.dim=0"),
    ],
)
def test_values_that_cannot_be_are_refused(settings, says):
    with pytest.raises(HarkError, match=says):
        made(**settings)


@pytest.mark.parametrize("objective", ["nest", "best_rq"])
def test_nest_takes_random_levels_and_refuses_trained_ones(objective):
    chosen = ["data.train=[]", f"objective={objective}", "encoder=fastconformer_tiny"]
    model = assemble(compose_config([*chosen, "quantizer=random_fsq"]).config)
    assert model.head.shape == (1, 8**4)
    with pytest.raises(HarkError, match="trains no quantizer"):
        assemble(compose_config([*chosen, "quantizer=fsq"]).config)
