"""The telephone's codec: the curves, the noise that they leave, and chains with what else a telephone does."""

import pytest
import torch

from plugins.augmentations.codec import Codec, Law, expand, squeeze
from research import registry
from research.compose import compose_config
from research.contracts import Batch, Seq
from research.errors import HarkError
from research.model import check
from research.training.seeds import seed_all
from tests.batches import run, speech
from tests.reference.codec import mu_pieces, smooth

registry.load_plugins()


def ratio(x, out):
    """Signal over what the codec added, dB."""
    return float(10 * torch.log10(x.square().sum() / (out - x).square().sum()))


@pytest.mark.parametrize("law", list(Law), ids=lambda law: law.value)
@pytest.mark.parametrize("bits", [4, 8])
def test_every_sample_is_that_of_the_plain_version(law, bits):
    x = torch.cat([torch.linspace(-1.2, 1.2, 997), torch.tensor([0.0, 1e-4, -1e-4])])[None]
    out = Codec(Codec.Config(bits=bits)).decoded(x, law)[0]
    wanted = torch.tensor([smooth(value, law.value, bits) for value in x[0].double().tolist()])
    off = (out - wanted).abs() > 1e-5
    assert off.sum() <= 2  # where a sample lies on the edge of two codes


@pytest.mark.parametrize("law", list(Law), ids=lambda law: law.value)
def test_expanding_undoes_squeezing(law):
    x = torch.linspace(0, 1, 1001)
    torch.testing.assert_close(expand(squeeze(x, law), law), x, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.3])
def test_the_noise_is_as_loud_as_that_of_the_standard(level):
    """About 38 dB below speech of any level: what companding is for."""
    x = level * torch.randn(20_000, generator=torch.Generator().manual_seed(0)).clamp(-3, 3)
    own = ratio(x, Codec(Codec.Config()).decoded(x[None], Law.mu)[0])
    standard = ratio(x, torch.tensor([mu_pieces(value) for value in x.tolist()]))
    assert own == pytest.approx(standard, abs=1.5)


def test_rows_draw_a_law_each_and_the_others_stay():
    given, seen = speech(), set()
    for seed in range(20):
        out = run(Codec, given, seed, prob=0.5)
        for row in range(4):
            size = int(given.audio.lengths[row])
            x, y = given.audio.x[row, :size], out.noisy.x[row, :size]
            laws = [law for law in Law if torch.equal(y, Codec(Codec.Config()).decoded(x[None], law)[0])]
            assert len(laws) == (row in out.changed.tolist())
            assert laws or torch.equal(x, y)
            seen.update(laws)
    assert seen == set(Law)


def test_silence_stays_silent_and_padding_is_left_alone():
    quiet = Batch.clean(Seq(torch.zeros(2, 100), torch.tensor([100, 50])))
    assert not run(Codec, quiet, prob=1.0).noisy.x.any()
    given = speech()
    given.audio.x[~given.audio.valid] = 9.0
    assert (run(Codec, given, prob=1.0).noisy.x[~given.audio.valid] == 9.0).all()


def test_a_telephone_call_is_a_band_and_a_codec():
    narrow, codec = registry.build(registry.config_of("augmentation", "telephone_call")).parts
    assert (narrow.cfg.low, narrow.cfg.high) == ([300.0, 300.0], [3400.0, 3400.0])
    assert isinstance(codec, Codec)


CHAINS = ["reverb,noise", "band_limit,noise", "reverb,band_limit,codec", "noise,telephone,codec"]


@pytest.mark.parametrize("parts", CHAINS)
def test_pretraining_takes_what_keeps_time(parts):
    chosen = ["augmentation=chain", f"augmentation.parts=[{parts}]", "data.noise=[n.jsonl]"]
    config = compose_config(["encoder=fastconformer_tiny", "data.train=[]", *chosen]).config
    model = check(config)
    assert model is not None
    given, augment = speech([16_000] * 4), registry.build(config.augmentation)
    changed = 0
    for seed in range(10):
        seed_all("chain", seed)
        out = augment(given)
        changed += len(out.changed)
        assert torch.equal(out.noisy.lengths, given.audio.lengths)
        assert torch.equal(out.noisy.x[~given.audio.valid], given.audio.x[~given.audio.valid])
        assert out.noisy.x.isfinite().all()
    assert changed > 20


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"prob": -1.0}, "augmentation.prob=-1"),
        ({"laws": []}, r"augmentation.laws=\[\]"),
        ({"bits": 1}, "augmentation.bits=1"),
    ],
)
def test_values_that_cannot_be_are_refused(choices, says):
    with pytest.raises(HarkError, match=says):
        Codec(Codec.Config(**choices))
