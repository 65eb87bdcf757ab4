"""data2vec 2.0: loss and gradients against the plain version; frames dropped and put back; one teacher pass; masks."""

from collections import Counter

import pytest
import torch

from research import registry
from research.compose import compose_config
from research.conformance.case import Case, speech
from research.conformance.tools import Fixed
from research.contracts import Masking, Seq
from research.errors import HarkError
from research.model import check
from research.nn.conv_decoder import ConvDecoder, DecoderConfig
from research.nn.kept import kept, put_back
from tests.reference import data2vec as plain
from tests.reference import data2vec2 as reference

registry.load_plugins()
CASE = Case("objective", "data2vec2")


class Rolled(Masking):
    """Another half of every row for each of two masks."""

    def forward(self, lengths, size):
        later = torch.arange(len(lengths))[:, None] % 2 == 1
        first = torch.arange(size) < lengths[:, None] // 2
        inside = torch.arange(size) < lengths[:, None]
        return torch.where(later, inside & ~first, first)


def steady(*overrides):
    """A model in evaluation whose gaps hold zeros and whose teacher is not the student."""
    objective = CASE.model("objective.noise=0.0", *overrides).eval()
    with torch.no_grad():
        for parameter in objective.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    objective.masking = Rolled()
    return objective


def plain_loss(objective, batch, *, dropped):
    """Utterance by utterance, mask by mask, the encoder called for each."""
    clean, noisy = objective.features(batch)
    z, seen = objective.encoder.embed(noisy), objective.encoder.embed(clean)
    decoder, total, count = objective.decoder, torch.zeros(()), 0
    convolutions = [(conv.weight, conv.bias) for conv in decoder.convolutions]
    for row, length in enumerate(z.lengths.tolist()):
        own, whole = z.x[row, :length], seen.x[row, :length]
        with torch.no_grad():
            layers = objective.teacher.model.context(alone(whole), objective.top).layers
        y = plain.targets([layer[0] for layer in layers])
        half = list(range(length // 2)), list(range(length // 2, length))
        for masked in half:
            if dropped:
                left = reference.kept_frames(own, masked)
                h = objective.encoder.context(alone(left)).last.x[0]
                h = reference.with_gaps(h, masked, length, torch.zeros(h.size(1)))
            else:
                hidden = torch.tensor([t in masked for t in range(length)])[:, None]
                h = objective.encoder.context(alone(own.masked_fill(hidden, 0.0))).last.x[0]
            out = (decoder.out.weight, decoder.out.bias)
            predicted = reference.decode(h, convolutions, out, objective.cfg.decoder.groups)
            total, count = total + plain.regression(predicted[masked], y[masked]), count + len(masked)
    return total, count


def alone(frames):
    return Seq(frames[None], torch.tensor([len(frames)]))


@pytest.mark.parametrize("masked", ["dropped", "filled"])
def test_loss_and_gradients_are_the_papers(masked):
    objective = steady(f"objective.masked={masked}")
    batch = speech(objective, (0.6, 0.4))
    trained = [p for p in objective.parameters() if p.requires_grad]
    loss = objective(batch)
    ours = torch.autograd.grad(loss.total, trained)
    wanted, count = plain_loss(objective, batch, dropped=masked == "dropped")
    theirs = torch.autograd.grad(wanted, trained)
    assert loss.count == count
    assert float(loss.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    largest = max(float(grad.abs().max()) for grad in theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * largest)


def test_the_teacher_hears_each_utterance_once_and_the_encoder_only_what_is_left():
    objective = CASE.model("objective.copies=3", "objective.masked=dropped")
    objective.masking = Fixed()
    read = {"teacher": [], "student": []}
    for who, encoder in (("teacher", objective.teacher.model), ("student", objective.encoder)):
        listen(encoder, read[who])
    batch = speech(objective)
    objective(batch)
    lengths = objective.encoder.embed(objective.frontend(batch.audio)).lengths
    ((all_of_them),) = read["teacher"]
    assert all_of_them.lengths.tolist() == lengths.tolist()
    ((left),) = read["student"]
    assert left.lengths.tolist() == [n - (3 * n // 4 - n // 4) for n in lengths.tolist() for _ in range(3)]
    assert left.x.size(1) == int(left.lengths.max())


def listen(encoder, read):
    context = encoder.context

    def hear(x, layers=()):
        read.append(x)
        return context(x, layers)

    vars(encoder)["context"] = hear


def test_frames_that_are_left_go_back_to_where_they_were():
    lengths = torch.tensor([9, 5, 1, 0])
    x = Seq(torch.randn(4, 9, 3), lengths)
    mask = (torch.rand(4, 9) < 0.5) & (torch.arange(9) < lengths[:, None])
    mask[2] = False
    some = kept(x, mask)
    for row, length in enumerate(lengths.tolist()):
        masked = mask[row].nonzero()[:, 0].tolist()
        left = [t for t in range(length) if t not in masked]
        assert some.lengths[row] == len(left)
        assert torch.equal(some.x[row, : len(left)], x.x[row, left])
        assert torch.equal(put_back(some.x, mask)[row, left], x.x[row, left])


def test_a_batch_of_which_nothing_is_left_has_one_frame_of_padding():
    x = Seq(torch.randn(2, 4, 3), torch.tensor([4, 2]))
    some = kept(x, torch.arange(4) < x.lengths[:, None])
    assert some.x.shape == (2, 1, 3)
    assert some.lengths.tolist() == [0, 0]


@pytest.mark.parametrize("dim", [8, 12])
def test_the_decoder_is_the_plain_one_whatever_follows_a_row(dim):
    torch.manual_seed(0)
    decoder = ConvDecoder(8, DecoderConfig(dim=dim, depth=3, kernel=3, groups=4, dropout=0.0))
    lengths = torch.tensor([7, 4])
    x = Seq(torch.randn(2, 7, 8), lengths)
    given = decoder(x, x.valid).split(lengths.tolist())
    convolutions = [(conv.weight, conv.bias) for conv in decoder.convolutions]
    for row, length in enumerate(lengths.tolist()):
        wanted = reference.decode(x.x[row, :length], convolutions, (decoder.out.weight, decoder.out.bias), 4)
        assert torch.allclose(given[row], wanted, atol=1e-5)


def test_what_cannot_work_is_refused():
    for override, words in {
        "objective.copies=0": "at least 1",
        "objective.decoder.groups=7": "choose another",
        "masking.prob=1.0": "a share between 0 and 1",
    }.items():
        with pytest.raises(HarkError, match=words):
            check(
                compose_config(["data.train=[]", "objective=data2vec2", *CASE.cls.example, override]).config
            )


# --- masks


def drawn(lengths, size, seed=0, **settings):
    torch.manual_seed(seed)
    masking = registry.build(registry.find("masking", "inverse_block").Config(**settings))
    return masking(torch.tensor(lengths), size)


@pytest.mark.parametrize("prob", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("length", [7, 20, 400])
def test_the_share_that_is_masked_is_right_however_short_a_row_is(prob, length):
    mask = drawn([length] * 3000, length + 3, prob=prob)
    counts = mask.sum(1).float()
    assert float(counts.max() - counts.min()) <= 1
    assert float(counts.mean()) / length == pytest.approx(prob, abs=0.02)


def test_of_two_frames_one_is_masked_and_of_one_none():
    assert (drawn([2] * 50, 4, prob=0.05).sum(1) == 1).all()
    assert (drawn([2] * 50, 4, prob=0.95).sum(1) == 1).all()
    assert not drawn([1, 0] * 50, 4, prob=0.95).any()


def test_what_is_kept_lies_in_blocks_and_what_is_masked_is_the_rest():
    assert share_in_long_runs(~drawn([400] * 100, 400, prob=0.8)) > 0.6
    assert share_in_long_runs(~drawn([400] * 100, 400, prob=0.8, length=1, adjust=0.0)) < 0.02


def share_in_long_runs(rows):
    """Of the frames that are True, those in runs of a block's length or more."""
    runs = Counter(run for row in rows for run in lengths_of_runs(row))
    frames = sum(run * number for run, number in runs.items())
    return sum(run * number for run, number in runs.items() if run >= 5) / frames


def lengths_of_runs(row):
    found, size = [], 0
    for value in [*row.tolist(), False]:
        if value:
            size += 1
        elif size:
            found.append(size)
            size = 0
    return found


def test_every_frame_is_kept_about_as_often_as_any_other():
    share = (~drawn([40] * 20_000, 40)).float().mean(0)
    assert float(share[3:-3].max() - share[3:-3].min()) < 0.03
    assert float(share.min()) > 0.35
