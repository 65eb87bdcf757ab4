"""Chains of augmentations, and what pretraining takes of all of them."""

import pytest
import torch

from plugins.augmentations.chain import Chain
from plugins.augmentations.speaker_noise import SpeakerNoise
from plugins.augmentations.speed import Speed
from research import registry
from research.compose import compose_config
from research.errors import HarkError
from research.model import check
from tests.batches import LENGTHS, run, speech

registry.load_plugins()


def test_a_chain_is_its_parts_in_turn():
    given = speech([16_000] * 4)
    settings = {"speed": {"prob": 1.0, "factors": [1.05]}, "noise": {"prob": 1.0, "snr": [5.0, 5.0]}}
    out = run(Chain, given, parts=["speed", "noise"], settings=settings)
    faster = run(Speed, given, prob=1.0, factors=[1.05])
    assert torch.equal(out.noisy.lengths, faster.noisy.lengths)
    added = out.noisy.x - faster.noisy.x
    ratio = 10 * torch.log10(faster.noisy.x.square().sum(1) / added.square().sum(1))
    torch.testing.assert_close(ratio, torch.full((4,), 5.0), atol=0.05, rtol=0)
    assert torch.equal(out.audio.x, given.audio.x)


def test_a_chain_lists_the_rows_of_all_its_parts():
    given = speech([16_000] * 4)
    for seed in range(20):
        out = run(Chain, given, seed, parts=["reverb", "noise"])
        differ = (out.noisy.x != given.audio.x).any(1).nonzero()[:, 0]
        assert torch.equal(out.changed, differ)


def test_speaker_noise_speaks_into_what_was_done_before():
    given = speech()
    before = given.augmented(given.audio.replace(3 * given.audio.x), torch.arange(4))
    out = run(SpeakerNoise, before, prob=1.0, mix_rate=(0.5, 0.5))
    for row, length in enumerate(LENGTHS.tolist()):
        untouched = out.noisy.x[row, :length] == before.noisy.x[row, :length]
        assert untouched.float().mean() == pytest.approx(0.5, abs=0.01)


def test_a_chain_keeps_time_and_needs_noise_as_its_parts_do():
    def made(*parts):
        return Chain(Chain.Config(parts=list(parts)))

    assert made("reverb", "speaker_noise").keeps_time
    assert not made("reverb", "speed").keeps_time
    assert made("reverb", "noise").needs_noise
    assert not made("reverb", "speaker_noise").needs_noise


def test_nemo_speaker_has_nemos_numbers():
    noise, speed, reverb = registry.build(registry.config_of("augmentation", "nemo_speaker")).parts
    assert (noise.cfg.prob, noise.cfg.snr) == (0.5, [0.0, 15.0])
    assert (speed.cfg.prob, min(speed.cfg.factors), max(speed.cfg.factors)) == (0.5, 0.95, 1.05)
    assert reverb.cfg.prob == 0.5


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        ({"parts": ["sped"]}, r"no augmentation is called 'sped'; did you mean 'speed'"),
        ({"parts": []}, "names nothing"),
        ({"parts": ["speed"], "settings": {"sped": {}}}, "settings.sped: .* did you mean 'speed'"),
        ({"parts": ["speed"], "settings": {"speed": {"pro": 1}}}, "settings.speed: .*pro"),
        ({"parts": ["speed"], "settings": {"speed": {"prob": "often"}}}, "settings.speed: .*often"),
    ],
)
def test_a_chain_that_cannot_be_is_refused_in_one_line(choices, says):
    with pytest.raises(HarkError, match=says) as told:
        Chain(Chain.Config(**choices))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["augmentation=speed"], r"\(Speed\) changes the lengths .* type augmentation=none"),
        (["augmentation=nemo_speaker", "data.noise=[n.jsonl]"], r"\(Chain\) changes the lengths"),
        (["augmentation=noise"], r"\(Noise\) needs a noise corpus.*type data.noise="),
        (["augmentation=chain", "augmentation.parts=[reverb,noise]"], "needs a noise corpus"),
    ],
)
def test_pretraining_refuses_what_it_cannot_use_when_the_config_is_composed(overrides, says):
    config = compose_config(["encoder=fastconformer_tiny", "data.train=[]", *overrides]).config
    with pytest.raises(HarkError, match=says) as told:
        check(config)
    assert "\n" not in str(told.value)


def test_pretraining_takes_what_keeps_time():
    chosen = ["augmentation=chain", "augmentation.parts=[reverb,noise]", "data.noise=[n.jsonl]"]
    check(compose_config(["encoder=fastconformer_tiny", "data.train=[]", *chosen]).config)


def test_a_part_of_a_chain_is_set_on_the_command_line():
    typed = [
        "+augmentation.settings.reverb={t60:[0.2,0.3],seconds:0.5}",
        "+augmentation.settings.noise.prob=1",
    ]
    config = compose_config(["data.train=[]", "augmentation=chain", *typed]).config
    _, reverb, noise = registry.build(config.augmentation).parts
    assert (reverb.cfg.t60, reverb.cfg.seconds, noise.cfg.prob) == ([0.2, 0.3], 0.5, 1.0)
