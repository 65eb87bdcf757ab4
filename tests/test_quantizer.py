"""Random-projection codes: the right ones, in fp32, the same for everybody."""

import pytest
import torch
from torch.nn import functional as F

from plugins.quantizers import random_projection
from plugins.quantizers.random_projection import RandomProjection
from research import registry
from research.compose import compose_config
from research.errors import HarkError
from research.model import assemble


def make(**choices):
    return RandomProjection(RandomProjection.Config(**choices), dim_in=40)


@pytest.fixture
def inputs():
    return torch.randn(3, 21, 40, generator=torch.Generator().manual_seed(5))


def slow_ids(quantizer, x, distance):
    """One frame, one book, one code at a time, in float64."""
    ids = torch.empty(*x.shape[:-1], quantizer.books, dtype=torch.long)
    for book in range(quantizer.books):
        y = F.normalize(x.double() @ quantizer.projection[book].double(), dim=-1)
        ids[..., book] = torch.stack([distance(y, c.double()) for c in quantizer.codebook[book]]).argmin(0)
    return ids


@pytest.mark.parametrize("books", [1, 3])
@pytest.mark.parametrize("name", ["l2", "cosine"])
def test_ids_are_the_nearest_codes_by_l2_and_by_cosine(inputs, books, name):
    distances = {
        "l2": lambda y, c: (y - c).norm(dim=-1),
        "cosine": lambda y, c: -F.cosine_similarity(y, c, dim=-1),
    }
    quantizer = make(books=books, codes=50)
    assert torch.equal(quantizer(inputs).ids, slow_ids(quantizer, inputs, distances[name]))


def test_vectors_of_several_books_are_not_scrambled(inputs):
    quantizer = make(books=3, codes=50, dim=4)
    codes = quantizer(inputs)
    for book in range(3):
        expected = quantizer.codebook[book, codes.ids[..., book]]
        assert torch.equal(codes.vectors.unflatten(-1, (3, 4))[..., book, :], expected)
    assert codes.vectors.shape[-1] == quantizer.dim


def test_everything_is_fp32():
    assert {buffer.dtype for buffer in make().buffers()} == {torch.float32}


def test_targets_do_not_depend_on_the_compute_dtype(inputs):
    quantizer = make(codes=8192)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer(inputs).ids, quantizer(inputs.clone()).ids)
        under = quantizer(inputs).ids
    assert torch.equal(under, quantizer(inputs).ids)


def test_targets_come_from_the_seed_and_not_from_the_global_generator(inputs):
    torch.manual_seed(1)
    first = make()
    torch.manual_seed(2)
    assert torch.equal(first(inputs).ids, make()(inputs).ids)
    assert not torch.equal(first(inputs).ids, make(seed=1)(inputs).ids)


def test_layer_norm_makes_codes_blind_to_level_and_offset(inputs):
    quantizer = make(layer_norm=True)
    assert torch.equal(quantizer(inputs).ids, quantizer(7 * inputs + 3).ids)
    assert not torch.equal(make()(inputs).ids, make()(7 * inputs + 3).ids)


def test_pieces_give_what_the_whole_gives(inputs, monkeypatch):
    whole = make()(inputs).ids
    monkeypatch.setattr(random_projection, "ROOM", 5 * 8192)
    assert torch.equal(make()(inputs).ids, whole)


def test_nothing_is_trained_and_no_input_is_fine():
    quantizer = make(books=2)
    assert not list(quantizer.parameters())
    assert quantizer(torch.zeros(0, 40)).ids.shape == (0, 2)


@pytest.mark.parametrize("objective", ["wav2vec2", "w2v_bert", "mel_w2v_bert"])
def test_objectives_that_compare_vectors_refuse_a_quantizer_without(objective, monkeypatch):
    registry.load_plugins()
    example = [o for o in registry.find("objective", objective).example if not o.startswith("quantizer")]
    config = compose_config(
        ["data.train=[]", f"objective={objective}", *example, "quantizer.codes=64"]
    ).config
    assemble(config)
    monkeypatch.setattr(RandomProjection, "dim", property(lambda _: 0, lambda _, value: None), raising=False)
    with pytest.raises(HarkError, match="this quantizer has none; type quantizer=gumbel"):
        assemble(config)
