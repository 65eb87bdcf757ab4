"""Reading phones and letters from frozen features by CTC."""

from itertools import pairwise

import editdistance
import pytest
import torch

from plugins.probes.phone_ctc import CTCReader, Reader, errors, letters
from research.downstream import Features
from research.evaluation.metrics import greedy

PERIOD = 0.04
TOY = {"steps": 60, "lrs": [0.1], "batch": 8}


def speech(seed, period=PERIOD, utterances=16, phones=12, size=5):
    """Phones of two or three cells; no two neighbours are alike, pauses between some. A long frame holds its cells."""
    source = torch.Generator().manual_seed(seed)
    frames, segments = [], []
    for _ in range(utterances):
        steps = torch.randint(1, size, (phones,), generator=source)
        said = (steps.cumsum(0) % size).repeat_interleave(
            torch.randint(2, 4, (phones,), generator=source)
        )  # (T,)
        per_frame = max(1, round(period / PERIOD))
        said = said[: len(said) // per_frame * per_frame]
        x = torch.nn.functional.one_hot(said, size).float().view(len(said) // per_frame, -1)
        x = x.repeat_interleave(max(1, round(PERIOD / period)), 0)
        frames.append(x + 0.05 * torch.randn(x.shape, generator=source))
        starts = [0, *(torch.nonzero(said.diff())[:, 0] + 1).tolist(), len(said)]
        segments.append(
            [
                (a * PERIOD, b * PERIOD, "pau" if said[a] == 0 else "abcde"[said[a]])
                for a, b in pairwise(starts)
            ]
        )
    texts = ["".join(label for _, _, label in one if label != "pau") for one in segments]
    return Features(frames, period, segments, texts, [""] * utterances)


def score(answers):
    return answers.metrics(answers.counts.sum(0, keepdim=True))["error_rate"].item()


@pytest.mark.parametrize("period", [0.01, 0.04, 0.08])
def test_a_linear_code_is_read_whatever_the_period(period):
    train, dev, test = (speech(seed, period) for seed in range(3))
    held, answers = CTCReader(CTCReader.Config(**TOY)).run(train, dev, test, seed=0)
    assert score(held) < 0.1
    assert score(answers) < 0.1
    said = [[p for _, _, p in one if p != "pau"] for one in test.segments]
    assert answers.counts[:, 1].tolist() == [len(one) for one in said]


def test_letters_of_a_text_are_read():
    train, dev, test = (speech(seed) for seed in range(3))
    probe = CTCReader(CTCReader.Config(key="text", **TOY))
    assert probe.key == "text"
    assert score(probe.run(train, dev, test, seed=0)[1]) < 0.1


def test_an_lstm_learns_as_well_and_ignores_padding():
    train, dev, test = (speech(seed) for seed in range(3))
    probe = CTCReader(CTCReader.Config(units=16, **TOY))
    together = probe.run(train, dev, test, seed=0)[1]
    assert score(together) < 0.2
    alone = Features(test.frames[:1], PERIOD, test.segments[:1])
    assert torch.equal(probe.run(train, dev, alone, seed=0)[1].counts[0], together.counts[0])


def test_padding_changes_no_score_of_an_lstm():
    torch.manual_seed(0)
    reader = Reader(3, 1, 4, 5)
    torch.nn.init.normal_(reader.out.weight)
    xs = [torch.randn(n, 3) for n in (4, 9, 1)]
    for x, scores in zip(xs, reader(xs), strict=True):
        assert torch.allclose(reader([x])[0], scores[: len(x)], atol=1e-6)


def test_edits_are_those_of_greedy_decoding():
    torch.manual_seed(0)
    reader = Reader(4, 2, 4, 0)
    torch.nn.init.normal_(reader.out.weight)
    xs = [torch.randn(n, 4) for n in (3, 20, 12)]
    texts = [torch.randint(1, 4, (n,)) for n in (2, 15, 30)]
    for x, text, found in zip(xs, texts, errors(reader, xs, texts, 2).tolist(), strict=True):
        said = greedy(reader([x])[0].argmax(-1).numpy(), 0)
        assert found == [editdistance.eval(said, text.tolist()), len(text)]


def test_texts_are_letters_and_single_spaces():
    assert "".join(letters(" Стра+нная, «Аэли́та» — 1923  год!\n")) == "странная аэли́та 1923 год"


def test_dev_alone_chooses_the_learning_rate():
    """A rate of 0 answers nothing, which is all right where nothing is said but pauses."""
    train, dev, test = (speech(seed) for seed in range(3))
    dev.segments = [[(s, e, "pau") for s, e, _ in one] for one in dev.segments]
    probe = CTCReader(CTCReader.Config(steps=60, lrs=[0.1, 0.0], batch=8))
    answers = probe.run(train, dev, test, seed=0)[1]
    assert answers.chosen == {"lr": 0.0}
    assert score(answers) == 1.0
    assert probe.run(train, test, test, seed=0)[1].chosen == {"lr": 0.1}


def test_answers_depend_on_the_seed_alone():
    train, dev, test = (speech(seed) for seed in range(3))
    probe = CTCReader(CTCReader.Config(steps=5, lrs=[0.03], units=4))
    before = torch.get_rng_state()
    first = probe.run(train, dev, test, seed=0)[1].counts
    assert torch.equal(before, torch.get_rng_state())  # the probe draws from no one else
    torch.manual_seed(6)
    assert torch.equal(first, probe.run(train, dev, test, seed=0)[1].counts)
