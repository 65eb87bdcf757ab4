"""Phone ABX against the definition, written out triple by triple and path by path."""

import itertools
import math
from collections import defaultdict

import pytest
import torch

from plugins.probes.abx import ABX, triples
from research.downstream import Features
from research.errors import HarkError
from research.nn.dtw import distances, warp

PERIOD = 0.02


def random_speech(seed, utterances=6, phones=12, dim=5, lasts=(1, 2, 3)):
    """Phones of 20 to 60 ms, two voices, frames around each phone's own direction."""
    source = torch.Generator().manual_seed(seed)
    names = torch.randn(4, dim, generator=torch.Generator().manual_seed(9))
    frames, segments = [], []
    for _ in range(utterances):
        said = torch.randint(4, (phones,), generator=source)
        sizes = torch.tensor(lasts)[torch.randint(len(lasts), (phones,), generator=source)]
        x = names[said.repeat_interleave(sizes)]
        frames.append(x + 1.5 * torch.randn(x.shape, generator=source))
        ends = (sizes.cumsum(0) * PERIOD).tolist()
        starts = [0.0, *ends[:-1]]
        labels = ["pau" if p == 3 else f"p{p}" for p in said.tolist()]
        segments.append(list(zip(starts, ends, labels, strict=True)))
    return Features(frames, PERIOD, segments, [""] * utterances, [f"s{u % 2}" for u in range(utterances)])


def angle(a, b):
    cosine = sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)
    return math.acos(max(-1.0, min(1.0, cosine))) / math.pi


def paths(n, m):
    """Every way from (0, 0) to (n - 1, m - 1)."""
    if n == m == 1:
        return [[(0, 0)]]
    shorter = [(a, b) for a, b in ((n - 1, m - 1), (n - 1, m), (n, m - 1)) if a and b]
    return [[*path, (n - 1, m - 1)] for a, b in shorter for path in paths(a, b)]


def warped(x, y):
    total, length = min(
        (sum(angle(x[i], y[j]) for i, j in path), len(path)) for path in paths(len(x), len(y))
    )
    return total / length


def brute_force(features, group):
    """Error over all triples of a group, averaged over cells, then over ordered pairs of phones."""
    tokens = []
    for x, segments, speaker in zip(features.frames, features.segments, features.speakers, strict=True):
        labels = ["", *(label for _, _, label in segments), ""]
        for k, (start, end, label) in enumerate(segments):
            if label != "pau":
                rows = x[round(start / PERIOD) : round(end / PERIOD)].tolist()
                tokens.append((label, group(speaker, (labels[k], labels[k + 2])), rows))
    cells = defaultdict(list)
    for x, a, b in itertools.product(range(len(tokens)), repeat=3):
        (p, g, _), (q, h, _), (r, i, _) = tokens[x], tokens[a], tokens[b]
        if x != a and p == q != r and g == h == i:
            near, far = warped(tokens[a][2], tokens[x][2]), warped(tokens[b][2], tokens[x][2])
            cells[p, r, g].append((near > far) + 0.5 * (near == far))
    pairs = defaultdict(list)
    for (p, r, _), wrong in cells.items():
        pairs[p, r].append(sum(wrong) / len(wrong))
    return sum(sum(found) / len(found) for found in pairs.values()) / len(pairs)


def score(answers):
    return {name: v.item() for name, v in answers.metrics(answers.counts.sum(0, keepdim=True)).items()}


def test_errors_equal_brute_force():
    probe = ABX(ABX.Config(triples=10**6, shift=0.0))
    features = random_speech(0, utterances=4, phones=10)
    found = score(probe.run(features, features, features, seed=0)[1])
    assert found["error"] == pytest.approx(brute_force(features, lambda speaker, context: (speaker, context)))
    assert found["any_context"] == pytest.approx(brute_force(features, lambda speaker, _: speaker))
    assert found["any_speaker"] == pytest.approx(brute_force(features, lambda _, context: context))


def test_the_cheapest_path_is_found_among_all():
    source = torch.Generator().manual_seed(0)
    sizes = [(1, 1), (1, 4), (3, 2), (4, 4), (2, 5)]
    tokens = [torch.randn(size, 3, generator=source) for pair in sizes for size in pair]
    pairs = torch.arange(len(tokens)).view(-1, 2)
    expected = [warped(tokens[2 * i].tolist(), tokens[2 * i + 1].tolist()) for i in range(len(sizes))]
    assert distances(tokens, pairs).tolist() == pytest.approx(expected, abs=1e-6)


def test_padding_costs_nothing():
    cost = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
    n, m = torch.tensor([5, 3]), torch.tensor([6, 2])
    alone = warp(cost[1:, :3, :2], n[1:], m[1:])
    cost[1, 3:], cost[1, :, 2:] = 0, 0
    assert warp(cost, n, m)[1] == alone[0]


def test_without_context_the_same_speaker_is_still_asked():
    features = random_speech(1)
    features.speakers = ["one"] * len(features.frames)
    assert score(ABX(ABX.Config()).run(features, features, features, 0)[1]).keys() == {"error", "any_context"}


def test_equal_distances_are_half_an_error():
    features = random_speech(0)
    features.frames = [torch.ones_like(x) for x in features.frames]
    assert set(score(ABX(ABX.Config()).run(features, features, features, 0)[1]).values()) == {0.5}


def test_phones_that_differ_are_told_apart():
    features = random_speech(0)
    known = {"p0": 0, "p1": 1, "p2": 2, "pau": 3}
    features.frames = [
        torch.eye(4)[[known[label] for s, e, label in segments for _ in range(round((e - s) / PERIOD))]]
        for segments in features.segments
    ]
    found = score(ABX(ABX.Config(shift=0.0)).run(features, features, features, 0)[1])
    assert found["error"] == found["any_context"] == 0


def test_a_cell_has_so_many_triples_at_most_and_they_weigh_one():
    features = random_speech(2, utterances=10)
    probe = ABX(ABX.Config())
    tokens = probe.tokens(features, {"p0": 0, "p1": 1, "p2": 2, "pau": 3})
    groups = [token.speaker for token in tokens]
    rows, weights = triples(tokens, groups, 7, seed=0)
    cells = defaultdict(list)
    for (x, a, b), weight in zip(rows.tolist(), weights.tolist(), strict=True):
        assert groups[x] == groups[a] == groups[b]
        assert tokens[x].phone == tokens[a].phone != tokens[b].phone
        assert x != a
        cells[groups[x], tokens[x].phone, tokens[b].phone].append(weight)
    assert len(cells) == 2 * 3 * 2  # speakers, ordered pairs of phones
    assert {len(found) for found in cells.values()} == {7}
    assert all(sum(found) == pytest.approx(1) for found in cells.values())


def test_the_seed_draws_the_triples():
    features = random_speech(2, utterances=10)
    probe = ABX(ABX.Config(triples=3))
    first, again, other = (probe.run(features, features, features, seed)[1].counts for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_token_has_the_frames_whose_centres_it_holds_or_one():
    probe = ABX(ABX.Config(shift=0.01))
    assert probe.rows(0.0, 0.04, 0.02, 10) == slice(0, 2)  # 10 to 50 ms holds the centres at 10 and 30 ms
    assert probe.rows(0.06, 0.07, 0.04, 10) == slice(
        1, 2
    )  # 70 to 80 ms, no centre: frame 1 is at 40 to 80 ms
    assert probe.rows(0.19, 0.25, 0.02, 10) == slice(9, 10)  # beyond the end: the last frame


def test_too_little_speech_is_refused():
    features = random_speech(0, utterances=1, phones=3)
    with pytest.raises(HarkError, match="no phone is said twice between the same neighbours"):
        ABX(ABX.Config()).run(features, features, features, 0)
