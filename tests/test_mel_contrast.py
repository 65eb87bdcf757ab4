"""Contrast on mel: what is masked, what a target is, and batches that NeMo's form of it cannot take."""

import pytest
import torch
from torch.nn import functional as F

from research.compose import compose_config
from research.contracts import Batch, Seq
from research.errors import HarkError
from research.model import assemble, check
from research.training.seeds import seed_all

SMALL = ("data.train=[]", "encoder=fastconformer_tiny", "masking=grid_block")
CODES = ("objective=mel_w2v_bert", "quantizer=gumbel", "quantizer.codes=8", "quantizer.dim=16")
CONV = ("encoder=citrinet_tiny", "encoder.dim=16", "objective.upsample=2", "objective.closing.dim=24")


def model(*overrides):
    return assemble(compose_config([*SMALL, "objective=mel_contrast", *overrides]).config).eval()


def clips(*seconds, level=0.1):
    lengths = torch.tensor([round(16_000 * s) for s in seconds])
    audio = Seq(level * torch.randn(len(lengths), int(lengths.max())), lengths)
    return Batch.clean(audio.replace(audio.x * audio.valid))


def fix_mask(it, *spans, size=400):
    """One masked span of mel frames in each row."""
    mask = torch.zeros(len(spans), size, dtype=torch.bool)
    for row, (start, end) in enumerate(spans):
        mask[row, start:end] = True
    it.masking.forward = lambda lengths, size: mask[:, :size]


def watched(it, name):
    """What a method of the objective is called with, from now on."""
    calls = []
    original = getattr(it, name)
    setattr(it, name, lambda *args: calls.append(args) or original(*args))
    return calls


@pytest.mark.parametrize("overrides", [(), CODES, CONV, (*CODES, *CONV)])
def test_every_row_keeps_its_own_masked_share(overrides):
    """The shortest utterance of a batch does not decide for the others, and rows need not be equally long."""
    it = model(*overrides)
    calls = watched(it, "compare")
    loss = it(clips(12.0, 4.0, 1.0, 0.3))
    counts = calls[0][3].sum(1)
    assert loss.count == int(counts.sum())
    assert torch.isfinite(loss.total)
    share = counts * it.piece / torch.tensor([1200, 400, 100, 30])
    assert (share[:2] > 0.35).all()
    assert counts[2] > 0
    assert counts[3] == 0  # no patch of 480 ms fits into 300 ms


@pytest.mark.parametrize("overrides", [(), CODES])
def test_fewer_masked_frames_than_negatives_are_no_error(overrides):
    """An 8x encoder has 54 masked frames in 8 s: a hundred negatives are drawn of them with replacement."""
    it = model("encoder.stride=8", "objective.negatives=100", *overrides)
    loss = it(clips(8.0, 9.0))
    assert 40 <= loss.count <= 120
    assert torch.isfinite(loss.total)
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in it.parameters())


def test_a_single_masked_target_has_nothing_to_be_told_from():
    it = model()
    fix_mask(it, (40, 48))
    loss = it(clips(2.0))
    assert (loss.count, loss.total.item()) == (1, 0.0)


@pytest.mark.parametrize("overrides", [(), CODES])
def test_what_is_masked_was_drawn_and_does_not_only_look_masked(overrides):
    """Silence has features near zero and bands of frequency are zeros: neither makes a target."""
    it = model("objective.freq_masks=8", "objective.freq_width=80", *overrides)
    fix_mask(it, (40, 104), (40, 104))
    assert it(clips(2.0, 2.0, level=0.0)).count == it(clips(2.0, 2.0)).count == 2 * 8


def test_the_encoder_reads_zeros_under_the_mask_and_in_bands():
    it = model("objective.freq_masks=1", "objective.freq_width=20")
    fix_mask(it, (40, 80), (0, 40))
    seen = []
    it.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].x))
    seed_all("bands", 3)
    batch = clips(2.0, 2.0)
    it(batch)
    (x,), clean = seen, it.frontend(batch.audio).x
    gone = (x == 0) & (clean != 0)
    assert gone[0, 40:80].all()
    assert gone[1, :40].all()
    bands = gone[0, 100:].all(0)  # (F,)
    assert 0 < bands.sum() <= 20
    assert bands.nonzero().diff(dim=0).eq(1).all()  # one band
    assert torch.equal(x[0, 100:, ~bands], clean[0, 100:, ~bands])


@pytest.mark.parametrize("upsample", [1, 2])
def test_targets_are_the_clean_frames_of_their_piece(upsample):
    it = model(*CONV, f"objective.upsample={upsample}", "masking.length=16")
    calls = watched(it, "compare")
    clean = clips(2.0, 1.1)
    noisy = clean.audio.replace(clean.audio.x + 0.1 * torch.randn_like(clean.audio.x))
    it(Batch(clean.audio, noisy, torch.tensor([0, 1])))
    x, _, _, hit = calls[0]
    feats = it.frontend(clean.audio).x  # (B, S, F)
    piece = 8 // upsample
    wanted = [feats[row, piece * at : piece * (at + 1)].flatten() for row, at in hit.nonzero().tolist()]
    assert len(wanted) > 4
    assert torch.equal(x, torch.stack(wanted))


@pytest.mark.parametrize("overrides", [(), CONV])
def test_the_loss_is_that_of_every_target_by_itself(overrides):
    """Cosine to the target and to negatives of the same row, over the temperature."""
    it = model(*overrides, "objective.negatives=2", "objective.freq_masks=0")
    fix_mask(it, (0, 2 * it.piece), (40, 40 + 2 * it.piece))  # two targets in each row
    calls = watched(it, "contrast")
    loss = it(clips(2.0, 2.0))
    c, y, hit = calls[0]
    assert hit.sum(1).tolist() == [2, 2]
    total = 0.0
    for at in (0, 2):
        score = F.cosine_similarity(c[at : at + 2, None], y[None, at : at + 2], dim=2) / 0.1
        for own in range(2):  # the other target, twice
            logits = torch.stack([score[own, own], score[own, 1 - own], score[own, 1 - own]])
            total += F.cross_entropy(logits, torch.tensor(0)).item()
    assert loss.total.item() == pytest.approx(total, rel=1e-4)


def test_books_together_are_one_class():
    it = model(*CODES, "quantizer.books=2", "objective.prediction=1.0", "objective.diversity=0.0")
    calls, predict = [], it.heads["predict"]
    predict.register_forward_hook(lambda _, args, out: calls.append(out))
    it.quantizer.register_forward_hook(lambda _, args, out: calls.append(out.ids))
    contrasts = []
    contrast = it.contrast
    it.contrast = lambda *args: contrasts.append(contrast(*args)) or contrasts[0]
    loss = it(clips(4.0, 3.0))
    ids, logits = sorted(calls, key=lambda value: value.is_floating_point())
    assert logits.shape == (loss.count, 8**2)
    assert len({tuple(pair) for pair in ids.tolist()}) > 1
    ce = F.cross_entropy(logits, ids[:, 0] + 8 * ids[:, 1], reduction="sum")
    assert loss.total.item() == pytest.approx((contrasts[0].total + ce).item(), rel=1e-5)


def test_contrast_may_be_lower_than_prediction():
    it = model(*CODES, "objective.layer=1")
    calls = watched(it, "compare")
    it(clips(2.0))
    _, tap, last, _ = calls[0]
    assert tap.x.shape == last.x.shape
    assert not torch.equal(tap.x, last.x)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("objective.upsample=3",), "objective.upsample=3"),
        (("objective.upsample=16",), "objective.upsample=16"),
        (("objective.closing.dim=16", "objective.closing.kernel=4"), "objective.closing.kernel=4"),
        (("objective.freq_masks=-1",), "freq_masks=-1"),
        ((*CODES, "objective.layer=3"), "objective.layer=3: choose one of the encoder's layers, 1 to 2"),
        ((*CODES, "quantizer.books=8"), "8 books of them are 16777216 classes"),
        (("objective=mel_w2v_bert", "quantizer=none"), "quantizer=none"),
    ],
)
def test_impossible_settings_are_refused(overrides, words):
    with pytest.raises(HarkError, match=words):
        check(compose_config([*SMALL, "objective=mel_contrast", *overrides]).config)
