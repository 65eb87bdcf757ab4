"""Measures of health against what their definitions say, term by term."""

import math

import pytest
import torch

from research.nn.health import cka, dead, entropies, gram, rankme, relative_variation, variation


@pytest.fixture
def x():
    return torch.randn(40, 7, generator=torch.Generator().manual_seed(0))


def test_variation_is_the_deviation_of_each_channel_over_frames(x):
    by_hand = 0.0
    for channel in x.T.tolist():
        mean = sum(channel) / len(channel)
        by_hand += math.sqrt(sum((value - mean) ** 2 for value in channel) / len(channel)) / x.size(1)
    assert float(variation(x)) == pytest.approx(by_hand, rel=1e-5)
    assert float(variation(x + 100)) == pytest.approx(by_hand, rel=1e-3)


def test_relative_variation_is_none_of_a_constant_and_all_of_what_is_centred(x):
    assert float(relative_variation(x[:1].expand(40, 7))) == pytest.approx(0, abs=1e-6)
    assert float(relative_variation(torch.zeros(40, 7))) == 0
    assert float(relative_variation(x - x.mean(0))) == pytest.approx(1, rel=1e-5)
    assert float(relative_variation(3 * x)) == pytest.approx(float(relative_variation(x)), rel=1e-5)


@pytest.mark.parametrize("shape", [(40, 7), (7, 40)])
def test_rankme_is_the_entropy_of_singular_values(shape):
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    s = torch.linalg.svd(x).S.tolist()
    p = [value / sum(s) + 1e-7 for value in s]
    assert float(rankme(x)) == pytest.approx(math.exp(-sum(q * math.log(q) for q in p)), rel=1e-5)


def test_rankme_counts_directions():
    eye = torch.eye(12)[:5].repeat(4, 1)
    assert float(rankme(eye)) == pytest.approx(5, rel=1e-3)
    assert float(rankme(torch.ones(9, 6))) == pytest.approx(1, rel=1e-3)


def test_cka_is_that_of_its_definition(x):
    """||Y'X||² / (||X'X|| ||Y'Y||) of centred representations; rotations and scales do not matter."""
    y = x[:, :4] @ torch.randn(4, 11, generator=torch.Generator().manual_seed(2)) + 3
    a, b = x - x.mean(0), y - y.mean(0)
    by_hand = (b.T @ a).square().sum() / ((a.T @ a).norm() * (b.T @ b).norm())
    assert float(cka(gram(x), gram(y))) == pytest.approx(float(by_hand), rel=1e-4)
    turned = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(3))).Q
    assert float(cka(gram(x), gram(5 * x @ turned - 2))) == pytest.approx(1, rel=1e-4)


def test_entropies_are_those_of_softmaxes():
    logits = torch.randn(30, 2, 5, generator=torch.Generator().manual_seed(4))
    p = logits.softmax(-1).tolist()
    each = [-sum(q * math.log(q) for q in row) for frame in p for row in frame]
    means = [[sum(frame[book][v] for frame in p) / 30 for v in range(5)] for book in range(2)]
    perplexity = sum(math.exp(-sum(q * math.log(q) for q in mean)) for mean in means) / 2
    entropy, mean_ppl = entropies(logits)
    assert float(entropy) == pytest.approx(sum(each) / len(each) / math.log(5), rel=1e-5)
    assert float(mean_ppl) == pytest.approx(perplexity, rel=1e-5)
    sure = torch.full((30, 2, 5), -50.0).index_fill_(-1, torch.tensor([3]), 50.0)
    assert [float(value) for value in entropies(sure)] == pytest.approx([0, 1], abs=1e-4)
    assert float(entropies(torch.zeros(3, 1, 5))[0]) == pytest.approx(1, rel=1e-5)


def test_dead_codes_are_those_that_could_have_been_seen():
    ids = torch.tensor([[0, 1], [0, 2], [0, 3], [0, 1]])
    assert float(dead(ids, 8)) == pytest.approx(
        1 - (1 / 4 + 3 / 4) / 2
    )  # four frames show four codes at most
    assert float(dead(ids, 2 + 2)) == pytest.approx(1 - (1 / 4 + 3 / 4) / 2)
    assert float(dead(torch.arange(6)[:, None], 4 + 2)) == 0
