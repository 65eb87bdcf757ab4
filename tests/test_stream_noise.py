"""Rooms and noise while loading, and what is drawn at random."""

import pickle

import numpy as np
import pytest
import soundfile
import torch

from research.config import Mix, Reverb
from research.data import torch_reader
from research.data.streams.clip import Portion
from research.engine import pipeline
from research.errors import HarkError
from tests.clips import NAMES, clip_of, hear, loader_of, relative
from tests.sounds import RATE, signal_of, write

pytestmark = pytest.mark.usefixtures("module_cache")


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Twelve utterances of one to two seconds."""
    folder = tmp_path_factory.mktemp("speech")
    rng = np.random.default_rng(0)
    found = []
    for i in range(12):
        x = 0.1 * rng.standard_normal(RATE + 1000 * i)
        soundfile.write(folder / f"{i}.flac", x, RATE)
        line = {"audio_filepath": f"{i}.flac", "duration": len(x) / RATE}
        found.append(clip_of(line, folder, row=i))
    return found


@pytest.fixture(scope="module")
def hum(tmp_path_factory):
    """A noise corpus without a fault: a short clip and a long one."""
    folder = tmp_path_factory.mktemp("hum")
    soundfile.write(folder / "short.wav", signal_of(0.35, RATE), RATE)
    soundfile.write(folder / "long.wav", signal_of(9.0, 8_000), 8_000)
    lines = [{"audio_filepath": f"{k}.wav", "duration": v} for k, v in (("short", 0.35), ("long", 9.0))]
    return str(write(folder / "hum.jsonl", *lines))


@pytest.fixture(scope="module")
def responses(tmp_path_factory):
    """A corpus of one impulse response, delayed by 40 samples, of two channels."""
    folder = tmp_path_factory.mktemp("rooms")
    x = np.zeros((800, 2))
    x[40, 0], x[90, 0] = 0.8, 0.4
    x[300, 1] = 0.8
    soundfile.write(folder / "room.wav", x, RATE, subtype="FLOAT")
    return str(write(folder / "rooms.jsonl", {"audio_filepath": "room.wav", "duration": 0.05}))


def rows_of(seq):
    return [row[:n] for row, n in zip(seq.x, seq.lengths.tolist(), strict=True)]


@pytest.mark.parametrize("what", ["mix", "reverb", "response", "both"])
def test_only_the_noisy_side_is_changed(clips, hum, responses, what):
    settings = {
        "mix": {"mix": Mix(prob=0.5, paths=[hum])},
        "reverb": {"reverb": Reverb(prob=0.5)},
        "response": {"reverb": Reverb(prob=0.5, paths=[responses])},
        "both": {"mix": Mix(prob=0.5, paths=[hum]), "reverb": Reverb(prob=0.5)},
    }[what]
    quiet, batch = hear(loader_of(), *clips).batch, hear(loader_of(**settings), *clips).batch
    assert torch.equal(batch.audio.x, quiet.audio.x)
    assert torch.equal(batch.audio.lengths, quiet.audio.lengths)
    assert torch.equal(batch.noisy.lengths, quiet.audio.lengths)
    differs = (batch.noisy.x != batch.audio.x).any(1)
    assert batch.changed.tolist() == differs.nonzero()[:, 0].tolist()
    assert 0 < len(batch.changed) < 12
    assert all(not row[n:].any() for row, n in zip(batch.noisy.x, batch.noisy.lengths.tolist(), strict=True))


def test_both_sides_are_changed_where_the_config_wants_it(clips, hum):
    settings = {"mix": Mix(prob=1.0, paths=[hum], clean=True), "reverb": Reverb(prob=1.0, clean=True)}
    quiet, batch = hear(loader_of(), *clips).batch, hear(loader_of(**settings), *clips).batch
    assert batch.noisy is batch.audio
    assert len(batch.changed) == 0
    assert torch.equal(batch.audio.lengths, quiet.audio.lengths)
    assert (batch.audio.x != quiet.audio.x).any(1).all()


def test_noise_on_both_sides_and_a_room_on_one(clips, hum):
    mix = Mix(prob=1.0, paths=[hum], clean=True)
    noise = hear(loader_of(mix=mix), *clips).batch
    batch = hear(loader_of(mix=mix, reverb=Reverb(prob=1.0)), *clips).batch
    assert torch.equal(batch.audio.x, noise.audio.x)
    assert batch.changed.tolist() == list(range(12))


def test_noise_has_the_snr_and_covers_the_utterance(clips, hum):
    batch = hear(loader_of(mix=Mix(prob=1.0, paths=[hum], snr=(3.0, 7.0))), *clips).batch
    levels = []
    for clean, noisy in zip(rows_of(batch.audio), rows_of(batch.noisy), strict=True):
        noise = noisy - clean
        levels.append(10 * float((clean.square().mean() / noise.square().mean()).log10()))
        assert noise[-1000:].square().mean() > 0.1 * noise.square().mean()
    assert min(levels) > 2.99
    assert max(levels) < 7.01
    assert max(levels) - min(levels) > 1


def test_a_room_is_moved_back_and_keeps_the_level(clips, responses):
    batch = hear(loader_of(reverb=Reverb(prob=1.0, paths=[responses])), *clips).batch
    for clean, noisy in zip(rows_of(batch.audio), rows_of(batch.noisy), strict=True):
        echo = clean.clone()
        echo[50:] += 0.5 * clean[:-50]
        echo *= (clean.square().sum() / echo.square().sum()).sqrt()
        assert (noisy - echo).abs().max() < 1e-4


def test_rooms_of_lhotse_leave_the_default_generator_alone(clips):
    loader = loader_of(reverb=Reverb(prob=1.0))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = hear(loader, *clips[:3]).batch.noisy.x
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(hear(loader, *clips[:3]).batch.noisy.x, first)


def test_what_is_drawn_depends_on_seed_epoch_and_utterance_alone(clips, hum):
    settings = {"noise": hum, "mix": Mix(prob=1.0, paths=[hum]), "reverb": Reverb(prob=1.0)}

    def row(clips, of, *, epoch=0, seed=0):
        batch = hear(loader_of(seed=seed, **settings), *clips, epoch=epoch).batch
        place = clips.index(of)
        return rows_of(batch.noisy)[place], rows_of(batch.noise)[place]

    alone = row([clips[3]], clips[3])
    among = row(clips[::-1], clips[3])
    assert all(torch.equal(a, b) for a, b in zip(alone, among, strict=True))
    for other in (
        row([clips[3]], clips[3], epoch=1),
        row([clips[3]], clips[3], seed=1),
        row([clips[3]._replace(row=99)], clips[3]._replace(row=99)),
    ):
        assert not torch.equal(other[0], alone[0])


def test_a_perturbation_does_not_move_the_draws_of_another(clips, hum):
    noise = {"mix": Mix(prob=0.5, paths=[hum])}
    rooms = noise | {"reverb": Reverb(prob=0.5)}
    own = hear(loader_of(hum, **noise), *clips).batch.noise
    assert torch.equal(own.x, hear(loader_of(hum), *clips).batch.noise.x)
    assert torch.equal(own.x, hear(loader_of(hum, **rooms), *clips).batch.noise.x)
    alone, both, room = (
        set(hear(loader_of(**settings), *clips).batch.changed.tolist())
        for settings in (noise, rooms, {"reverb": Reverb(prob=0.5)})
    )
    assert alone | room == both
    assert alone != room


def test_the_objective_gets_a_clip_of_noise_for_every_row(clips, hum):
    batch = hear(loader_of(hum), *clips).batch
    assert (batch.noise.lengths <= batch.audio.lengths).all()
    assert 0 < (batch.noise.lengths == round(0.35 * RATE)).sum() < 12
    assert batch.noisy is batch.audio


def test_broken_noise_is_replaced_and_told(clips, noises):
    heard = hear(loader_of(mix=Mix(prob=1.0, paths=[str(noises)])), *clips)
    assert heard.bad == []
    assert set(heard.bad_noise) == {f"{noises.parent}/broken.wav: cannot be decoded (Format not recognised)"}


def test_nothing_but_silent_rooms_is_an_error(clips, tmp_path):
    soundfile.write(tmp_path / "zero.wav", np.zeros(800), RATE)
    rooms = str(write(tmp_path / "r.jsonl", {"audio_filepath": "zero.wav", "duration": 0.05}))
    with pytest.raises(HarkError, match=r"zero.wav: .* in a row; see data.reverb.paths"):
        hear(loader_of(reverb=Reverb(prob=1.0, paths=[rooms])), *clips[:1])


@pytest.mark.parametrize(("read", "workers"), [(torch_reader.read, 2), (pipeline.read, 2)])
def test_workers_give_what_this_process_gives(clips, hum, cuts, read, workers):
    if read is pipeline.read and pipeline.problem():
        pytest.skip(pipeline.problem())
    loader = loader_of(hum, mix=Mix(prob=0.5, paths=[hum]), reverb=Reverb(prob=0.3))
    lines = [clip_of(relative(cuts[0][name], cuts[1]), cuts[1], row=i) for i, name in enumerate(NAMES)]
    portions = [Portion(e, 0, 0, part) for e in range(3) for part in (clips[:6], clips[6:], lines)]
    wanted = [loader.load(portion) for portion in portions]
    for found, alone in zip(
        read(portions, pickle.loads(pickle.dumps(loader)).load, workers), wanted, strict=True
    ):
        assert found.batch.ids == alone.batch.ids
        assert torch.equal(found.batch.audio.x, alone.batch.audio.x)
        assert torch.equal(found.batch.noisy.x, alone.batch.noisy.x)
        assert torch.equal(found.batch.noise.x, alone.batch.noise.x)
        assert torch.equal(found.batch.changed, alone.batch.changed)
