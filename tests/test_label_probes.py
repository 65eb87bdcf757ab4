"""What is asked of whole utterances: voice, language, whether voices are the same, words across voices."""

import pytest
import torch

from plugins.probes import same_voice, voice, words
from plugins.probes.same_voice import SameVoice
from plugins.probes.voice import UtteranceLabel
from plugins.probes.words import Words
from research import registry
from research.downstream import Features
from research.errors import HarkError
from research.evaluation.metrics import eer
from research.nn.classifier import Training


def speech(seed, utterances=40, labels=4, noise=0.5, dim=6):
    """A label that all frames of an utterance tell, and a voice that they tell less."""
    source = torch.Generator().manual_seed(seed)
    known = torch.randn(labels + 2, dim, generator=torch.Generator().manual_seed(9))
    frames, names, voices = [], [], []
    for u in range(utterances):
        label, by = u % labels, u // labels % 2
        sizes = torch.randint(6, 15, (1,), generator=source).item()
        x = 3 * known[label] + 0.5 * known[labels + by] + noise * torch.randn(sizes, dim, generator=source)
        frames.append(x)
        names.append(f"l{label}")
        voices.append(f"v{by}")
    return Features(frames, 0.02, [[] for _ in frames], names, voices)


def score(answers):
    return {name: v.item() for name, v in answers.metrics(answers.counts.sum(0, keepdim=True)).items()}


def test_labels_of_utterances_are_learnt():
    probe = UtteranceLabel(UtteranceLabel.Config(training=Training(steps=50)))
    held, answers = probe.run(speech(0), speech(1), speech(2), seed=0)
    assert score(held)["macro_accuracy"] == score(answers)["accuracy"] == 1.0
    assert answers.counts.shape == (40, 3, 4)
    assert answers.counts[:, 2].sum(0).tolist() == [10] * 4


def test_voice_and_language_ask_their_own_manifests():
    asked = {name: registry.build(registry.config_of("probe", name)) for name in ("voice", "language")}
    assert {name: (probe.task, probe.key) for name, probe in asked.items()} == {
        "voice": ("voice", "speaker"),
        "language": ("language", "lang"),
    }


def test_shares_are_means_over_labels():
    counts = torch.tensor([[[3.0, 0, 1], [4, 0, 0], [4, 0, 2]]])  # right, commonest, asked; one is not asked
    found = {name: v.item() for name, v in voice.metrics(counts).items()}
    assert found == pytest.approx({"macro_accuracy": (3 / 4 + 1 / 2) / 2, "accuracy": 4 / 6, "majority": 0.5})


def test_dev_alone_chooses_the_learning_rate():
    """A rate of 0 always says the first label: right on this dev, wrong on this test."""
    dev = speech(1)
    dev.labels = ["l0"] * 40
    probe = UtteranceLabel(UtteranceLabel.Config(training=Training(lrs=[0.03, 0.0], steps=50)))
    held, answers = probe.run(speech(0), dev, speech(2), seed=0)
    assert answers.chosen == {"lr": 0.0}
    assert (score(held)["accuracy"], score(answers)["accuracy"]) == (1.0, 0.25)
    assert probe.run(speech(0), speech(2), dev, seed=0)[1].chosen == {"lr": 0.03}


def test_a_label_that_was_never_taught_is_a_mistake():
    test = speech(2)
    test.labels = ["new"] * 40
    probe = UtteranceLabel(UtteranceLabel.Config(training=Training(steps=20)))
    assert score(probe.run(speech(0), speech(1), test, seed=0)[1])["accuracy"] == 0


def test_equal_error_rates_equal_those_of_exact_scores():
    source = torch.Generator().manual_seed(0)
    for shift in (0.0, 0.2, 0.5):
        same = torch.rand(800, generator=source) < 0.3
        scores = (0.3 * torch.randn(800, generator=source) + shift * same).clamp(-0.99, 0.99)
        bins = ((scores + 1) * (same_voice.BINS / 2)).long()
        counts = torch.zeros(1, 2, same_voice.BINS, dtype=torch.double)
        counts[0].index_put_((same.long(), bins), torch.ones(1, dtype=torch.double), accumulate=True)
        found = same_voice.metrics(counts)["error"].item()
        assert found == pytest.approx(eer(scores.numpy(), same.numpy()), abs=0.005)


def test_trials_are_those_of_later_utterances_with_every_voice():
    features = speech(0, utterances=20)
    features.labels[3] = "alone"
    answers = SameVoice(SameVoice.Config(enrolled=2)).run(features, features, features, seed=0)[1]
    assert answers.counts.sum((1, 2)).tolist() == [0.0] * 8 + [4.0] * 3 + [0.0] + [4.0] * 8
    assert answers.counts[:, 1].sum() == 11  # of the same voice
    assert score(answers)["error"] == 0


def test_voices_that_are_noise_are_confused():
    features = speech(0, utterances=400)
    features.labels = [f"v{i}" for i in torch.randint(4, (400,), generator=torch.Generator().manual_seed(0))]
    answers = SameVoice(SameVoice.Config()).run(features, features, features, seed=0)[1]
    assert score(answers)["error"] == pytest.approx(0.5, abs=0.1)
    features.labels = ["one"] * 400
    with pytest.raises(HarkError, match="1 voices have more than 5 utterances; it takes two"):
        SameVoice(SameVoice.Config()).run(features, features, features, seed=0)


def brute_force(vectors, features):
    """Rank by rank: whether the first of the others' is right, and how far down the right one is."""
    first, reciprocal = [], []
    for u, (word, by) in enumerate(zip(features.labels, features.speakers, strict=True)):
        others = [k for k, other in enumerate(features.speakers) if other != by]
        near = torch.nn.functional.cosine_similarity(vectors[u], vectors[others], dim=-1)
        order = [features.labels[others[k]] for k in near.argsort(descending=True)]
        if word in order:
            first.append(order[0] == word)
            reciprocal.append(1 / (1 + order.index(word)))
    return sum(first) / len(first), sum(reciprocal) / len(reciprocal)


def test_retrieval_equals_brute_force():
    features = speech(3, labels=10, noise=8.0)
    features.labels[0] = "said by no one else"
    vectors = torch.stack([words.sections(x, 3) for x in features.frames])
    counts = words.ranked(vectors, features)
    found = {name: v.item() for name, v in words.metrics(counts.sum(0, keepdim=True)).items()}
    assert (found["accuracy"], found["reciprocal_rank"]) == pytest.approx(brute_force(vectors, features))
    assert counts[:, 3].tolist() == [0.0] + [1.0] * 39
    assert found["chance"] == pytest.approx((2 * 36 + 1 * 1 + 2 * 2) / 20 / 39, abs=0.01)


def test_words_are_found_across_voices_and_dev_chooses_the_sections():
    """Each word is another order of the same sounds: its mean tells nothing."""
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]

    def told(seed):
        source = torch.Generator().manual_seed(seed)
        frames = [
            torch.eye(3)[list(order)].repeat_interleave(4, 0) + 0.1 * torch.randn(12, 3, generator=source)
            for order in orders * 2
        ]
        return Features(frames, 0.02, [[]] * 12, [str(o) for o in orders * 2], ["v0"] * 6 + ["v1"] * 6)

    probe = Words(Words.Config(sections=[1, 3]))
    answers = probe.run(told(0), told(1), told(2), seed=0)[1]
    assert answers.chosen == {"sections": 3.0}
    assert score(answers) == pytest.approx({"accuracy": 1.0, "reciprocal_rank": 1.0, "chance": 1 / 6})


def test_words_of_a_layer_that_says_nothing_are_not_found():
    features = speech(0)
    features.frames = [torch.full_like(x, 0.3) for x in features.frames]
    found = score(Words(Words.Config()).run(features, features, features, seed=0)[1])
    assert found["accuracy"] == 0
    assert found["reciprocal_rank"] < found["chance"]


def test_words_that_no_two_voices_say_are_refused():
    features = speech(0)
    features.speakers = ["one"] * 40
    with pytest.raises(HarkError, match="no two voices say the same word"):
        Words(Words.Config()).run(features, features, features, seed=0)


def test_sections_of_a_short_utterance_repeat_its_frames():
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert words.sections(x, 1).tolist() == [2.0, 3.0]
    assert words.sections(x, 4).tolist() == [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]


@pytest.mark.parametrize(
    "probe",
    [
        UtteranceLabel(UtteranceLabel.Config(training=Training(steps=5, hidden=8))),
        SameVoice(SameVoice.Config()),
    ],
)
def test_answers_depend_on_the_seed_alone(probe):
    before = torch.get_rng_state()
    parts = speech(0), speech(1), speech(2)
    first = probe.run(*parts, seed=0)[1].counts
    assert torch.equal(before, torch.get_rng_state())  # the probe draws from no one else
    torch.manual_seed(6)
    assert torch.equal(first, probe.run(*parts, seed=0)[1].counts)
