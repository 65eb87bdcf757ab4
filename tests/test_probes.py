"""What probes measure: labels on frames of any period, linear phone classification, clusters against phones."""

import math
from collections import Counter

import pytest
import torch

from plugins.probes import phone_frames, pnmi
from plugins.probes.phone_frames import PhoneFrames
from plugins.probes.pnmi import PNMI
from research.downstream import Features
from research.errors import HarkError
from research.nn.classifier import Training
from research.nn.grid import Grid, vocabulary

# shifted by 10 ms: a from 10 to 60 ms, b to 90 ms, nothing, c from 110 to 150 ms
SEGMENTS = [(0.0, 0.05, "a"), (0.05, 0.08, "b"), (0.1, 0.14, "c")]
KNOWN = {"a": 0, "b": 1, "c": 2}
CELLS = [0, 0, 0, 1, -1, 2, 2, -1]  # centres at 10, 30, 50, 70, 90, 110, 130 and 150 ms


def counting(period):
    """Frames that hold their own number, 160 ms of them."""
    return Features([torch.arange(round(0.16 / period)).float()[:, None]], period, [SEGMENTS])


def random_speech(period, phones=5, utterances=8, cells=400, seed=0):
    """One-hot frames of random phones that last one to five cells; a long frame holds all of its cells."""
    generator = torch.Generator().manual_seed(seed)
    frames, segments = [], []
    per_frame = max(1, round(period / 0.02))
    for _ in range(utterances):
        lasts = torch.randint(1, 6, (cells,), generator=generator)
        y = torch.randint(phones, (cells,), generator=generator).repeat_interleave(lasts)[:cells]
        onehot = torch.nn.functional.one_hot(y, phones).float()
        x = onehot.view(cells // per_frame, per_frame * phones)
        frames.append(x.repeat_interleave(max(1, round(0.02 / period)), 0))
        segments.append([(i * 0.02, (i + 1) * 0.02, f"p{label}") for i, label in enumerate(y.tolist())])
    return Features(frames, period, segments)


def asked(probe, train, test, seed=0):
    """Answers on the test utterances; the training utterances are dev, too."""
    return probe.run(train, train, test, seed)[1]


def score(answers):
    return {name: v.item() for name, v in answers.metrics(answers.counts.sum(0, keepdim=True)).items()}


def test_labels_are_looked_up_at_the_shifted_centre_of_a_cell():
    assert Grid().labels(SEGMENTS, KNOWN).tolist() == CELLS
    assert Grid(shift=0.0).labels(SEGMENTS, KNOWN).tolist() == [0, 0, 1, 1, -1, 2, 2, -1]
    assert Grid(cell=0.04).labels(SEGMENTS, KNOWN).tolist() == [0, 1, -1, 2]  # at 20, 60, 100 and 140 ms


@pytest.mark.parametrize(
    ("period", "x", "y"),
    [
        (0.01, [[2 * i, 2 * i + 1] for i in range(8)], [[c] for c in CELLS]),
        (0.02, [[i] for i in range(8)], [[c] for c in CELLS]),
        (0.04, [[i] for i in range(4)], [CELLS[i : i + 2] for i in range(0, 8, 2)]),
        (0.08, [[0], [1]], [CELLS[:4], CELLS[4:]]),
    ],
)
def test_every_period_answers_the_same_cells(period, x, y):
    ((frames, labels),) = Grid().align(counting(period), KNOWN)
    assert frames.tolist() == x
    assert labels.tolist() == y


def test_the_last_frame_stands_in_for_one_that_is_missing():
    short = counting(0.02)
    short.frames[0] = short.frames[0][:6]
    ((x, _),) = Grid().align(short, KNOWN)
    assert x.flatten().tolist() == [0, 1, 2, 3, 4, 5, 5, 5]


def test_frames_that_do_not_fit_are_refused():
    with pytest.raises(HarkError, match=r"frames of 25 ms do not fit a grid of 20 ms"):
        Grid().align(counting(0.025), KNOWN)
    short = counting(0.02)
    short.frames[0] = short.frames[0][:1]
    with pytest.raises(HarkError, match=r"labels end at 0.14 s, frames at 0.02 s"):
        Grid().align(short, KNOWN)


def brute_force(pairs):
    """PNMI and the purities, by the definitions: (phone, cluster) pairs -> three numbers."""
    n, joint = len(pairs), Counter(pairs)
    phone, cluster = Counter(p for p, _ in pairs), Counter(c for _, c in pairs)
    information = sum(k / n * math.log(k * n / (phone[p] * cluster[c])) for (p, c), k in joint.items())
    entropy = -sum(k / n * math.log(k / n) for k in phone.values())
    best_phone = sum(max(joint[p, c] for p in phone) for c in cluster) / n
    best_cluster = sum(max(joint[p, c] for c in cluster) for p in phone) / n
    return information / entropy, best_phone, best_cluster


def test_pnmi_equals_brute_force():
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        y = torch.randint(7, (500,), generator=generator)
        z = (y * torch.randint(1, 4, (500,), generator=generator)) % 9
        table = torch.bincount(y * 12 + z, minlength=84).view(1, 7, 12).double()  # two clusters never occur
        found = pnmi.metrics(table)
        expected = brute_force(list(zip(y.tolist(), z.tolist(), strict=True)))
        assert [found[k].item() for k in ("pnmi", "phone_purity", "cluster_purity")] == pytest.approx(
            expected
        )


def test_pnmi_is_one_for_a_code_and_zero_for_chance():
    code = torch.diag(torch.tensor([5.0, 9.0, 2.0]))
    chance = torch.tensor([5.0, 9.0, 2.0])[:, None] * torch.tensor([1.0, 4.0, 3.0])
    found = pnmi.metrics(torch.stack([code, chance]).double())
    assert found["pnmi"].tolist() == pytest.approx([1.0, 0.0], abs=1e-12)
    assert found["phone_purity"].tolist() == pytest.approx([1.0, 9 / 16])
    assert found["cluster_purity"].tolist() == pytest.approx([1.0, 4 / 8])


def test_clusters_of_short_frames_find_the_phones():
    probe = PNMI(PNMI.Config(grid=Grid(shift=0.0), clusters=20))
    for period in (0.01, 0.02):
        found = score(asked(probe, random_speech(period), random_speech(period, seed=1)))
        assert found["pnmi"] == pytest.approx(1.0)


def test_clusters_of_long_frames_are_repeated_in_every_cell():
    segments = [(0.0, 0.02, "a"), (0.02, 0.04, "b"), (0.04, 0.06, "b"), (0.06, 0.08, "b")]
    two = Features([torch.tensor([[0.0], [9.0]])], 0.04, [segments])
    answers = asked(PNMI(PNMI.Config(grid=Grid(shift=0.0), clusters=2)), two, two)
    tables = [[[1.0, 0.0], [1.0, 2.0]], [[0.0, 1.0], [2.0, 1.0]]]  # whichever cluster is the first
    assert answers.counts[0].tolist() in tables


def test_fewer_frames_than_clusters_are_refused():
    few = random_speech(0.02, utterances=2, cells=40)  # the grid has a cell more of each
    with pytest.raises(HarkError, match=r"100 clusters: there are only 82 frames, of 2 training utterances"):
        asked(PNMI(PNMI.Config()), few, few)


@pytest.mark.parametrize("period", [0.01, 0.02, 0.08])
def test_a_linear_code_is_read_in_every_position(period):
    probe = PhoneFrames(PhoneFrames.Config(grid=Grid(shift=0.0)))
    answers = asked(probe, random_speech(period), random_speech(period, seed=1))
    assert answers.counts.shape == (8, 3)
    assert answers.counts[:, 2].tolist() == [400] * 8
    assert score(answers)["accuracy"] > 0.99


def test_the_scale_of_features_does_not_matter():
    train, test = random_speech(0.02), random_speech(0.02, seed=1)
    for features in (train, test):
        features.frames = [20 * x + 1000 * torch.arange(5.0) for x in features.frames]
    probe = PhoneFrames(PhoneFrames.Config(grid=Grid(shift=0.0)))
    assert score(asked(probe, train, test))["accuracy"] > 0.99


def test_without_positions_a_long_frame_could_not_tell():
    """One frame of 40 ms, always `a` then `b`: only a classifier that knows the position is right."""
    segments = [(i * 0.02, (i + 1) * 0.02, "ab"[i % 2]) for i in range(200)]
    constant = Features([torch.ones(100, 1)], 0.04, [segments])
    probe = PhoneFrames(PhoneFrames.Config(grid=Grid(shift=0.0)))
    assert score(asked(probe, constant, constant))["accuracy"] == 1.0


def test_labels_that_say_nothing_are_answered_with_the_commonest():
    features, other = random_speech(0.02), random_speech(0.02, seed=1)
    for each in (features, other):  # segments of other utterances, half of them made p4
        each.segments = each.segments[1:] + each.segments[:1]
        each.segments = [
            [(s, e, "p4" if i % 2 else label) for i, (s, e, label) in enumerate(one)] for one in each.segments
        ]
    found = score(asked(PhoneFrames(PhoneFrames.Config(grid=Grid(shift=0.0))), features, other))
    assert found["majority"] == pytest.approx(0.6, abs=0.05)
    assert found["accuracy"] == pytest.approx(found["majority"], abs=0.02)


def test_a_label_that_was_never_taught_is_a_mistake():
    features = random_speech(0.02)
    news = Features(features.frames, 0.02, [[(s, e, "new") for s, e, _ in one] for one in features.segments])
    found = score(asked(PhoneFrames(PhoneFrames.Config(grid=Grid(shift=0.0))), features, news))
    assert found == {"accuracy": 0.0, "majority": 0.0}
    assert vocabulary(features, news)["new"] == 0


@pytest.mark.parametrize(
    "probe", [PhoneFrames(PhoneFrames.Config(training=Training(steps=50))), PNMI(PNMI.Config(clusters=7))]
)
def test_answers_depend_on_the_seed_alone(probe):
    train, test = random_speech(0.02), random_speech(0.02, seed=1)
    for features in (train, test):
        features.frames = [
            x + torch.randn(x.shape, generator=torch.Generator().manual_seed(2)) for x in features.frames
        ]
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = asked(probe, train, test).counts
    assert torch.equal(before, torch.get_rng_state())  # the probe draws from no one else
    torch.manual_seed(6)
    assert torch.equal(first, asked(probe, train, test).counts)
    assert not torch.equal(first, asked(probe, train, test, seed=1).counts)


@pytest.mark.parametrize(
    "probe", [PhoneFrames(PhoneFrames.Config(training=Training(steps=50))), PNMI(PNMI.Config(clusters=7))]
)
def test_an_utterance_is_answered_as_if_it_were_alone(probe):
    train, test = random_speech(0.02), random_speech(0.02, seed=1)
    together = asked(probe, train, test).counts
    for u in range(3):
        alone = Features(test.frames[u : u + 1], 0.02, test.segments[u : u + 1])
        assert torch.equal(asked(probe, train, alone).counts[0], together[u])


def test_accuracy_is_a_share_of_what_was_asked():
    found = phone_frames.metrics(torch.tensor([[3.0, 1.0, 4.0], [1.0, 2.0, 5.0]]))
    assert found["accuracy"].tolist() == pytest.approx([0.75, 0.2])
    assert found["majority"].tolist() == pytest.approx([0.25, 0.4])


def test_dev_alone_chooses_the_learning_rate():
    """A rate of 0 always says the first label: right on this dev, wrong on this test."""
    train, test = random_speech(0.02), random_speech(0.02, seed=1)
    dev = random_speech(0.02, seed=2)
    dev.segments = [[(s, e, "p0") for s, e, _ in one] for one in dev.segments]
    probe = PhoneFrames(
        PhoneFrames.Config(grid=Grid(shift=0.0), training=Training(lrs=[0.03, 0.0], steps=50))
    )
    held, answers = probe.run(train, dev, test, seed=0)
    assert answers.chosen == held.chosen == {"lr": 0.0}
    assert score(held)["accuracy"] == 1.0
    assert score(answers)["accuracy"] < 0.3
    held, answers = probe.run(train, test, dev, seed=0)
    assert answers.chosen == {"lr": 0.03}
    assert score(held)["accuracy"] > 0.99


def test_a_hidden_layer_reads_what_no_linear_one_can():
    """The label is whether two signs are equal."""
    generator = torch.Generator().manual_seed(0)
    parts = []
    for _ in range(3):
        x = torch.randint(2, (400, 2), generator=generator).float()
        segments = [(i * 0.02, (i + 1) * 0.02, str(bool(a == b))) for i, (a, b) in enumerate(x.tolist())]
        parts.append(Features([x], 0.02, [segments]))
    linear, mlp = (
        score(PhoneFrames(PhoneFrames.Config(grid=Grid(shift=0.0), training=each)).run(*parts, seed=0)[1])
        for each in (Training(steps=50), Training(steps=50, hidden=16))
    )
    assert linear["accuracy"] < 0.7
    assert mlp["accuracy"] > 0.99


def test_weights_of_layers_favour_the_one_that_tells():
    train, test = random_speech(0.02), random_speech(0.02, seed=1)
    for k, features in enumerate((train, test)):
        noise = torch.Generator().manual_seed(k)
        frames = [torch.stack([torch.randn(x.shape, generator=noise), x], 1) for x in features.frames]
        features.frames, features.layers = frames, (3, 5)  # (T, L, D)
    answers = PhoneFrames(PhoneFrames.Config(grid=Grid(shift=0.0))).run(train, test, test, seed=0)[1]
    assert sum(answers.weights) == pytest.approx(1)
    assert answers.weights[1] > 0.7
    assert score(answers)["accuracy"] > 0.95
