"""`data.cache`: the same samples as decoded ones, without the files that they came from."""

import logging
import pickle
import resource
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch

from research.config import Data, Mix
from research.data import decoded
from research.data.decoded import Decoded
from research.data.loader import Loader
from research.data.manifest import load
from research.data.plan import Item
from research.errors import HarkError
from tests.clips import clip_of, hear
from tests.clips import loader_of as streams_of
from tests.sounds import RATE, everything, loader_of, mixed_speech, signal_of, write


@pytest.fixture
def corpus_folder(tmp_path):
    (tmp_path / "corpus").mkdir()
    return mixed_speech(tmp_path / "corpus")


def hide(manifest):
    for path in manifest.parent.iterdir():
        if path != manifest:
            path.unlink()


def test_kept_audio_is_bit_identical_and_needs_no_file(corpus_folder, tmp_path):
    plain = everything(loader_of(corpus_folder))
    first = everything(loader_of(corpus_folder, cache=str(tmp_path / "cache")))
    hide(corpus_folder)
    again = everything(loader_of(corpus_folder, cache=str(tmp_path / "cache")))
    for loaded in (first, again):
        assert torch.equal(loaded.batch.audio.x, plain.batch.audio.x)
        assert torch.equal(loaded.batch.audio.lengths, plain.batch.audio.lengths)
        assert loaded.counts == plain.counts
        assert loaded.batch.ids == plain.batch.ids
    assert again.counts["converted"] > 0


def test_noise_is_bit_identical_and_what_needs_no_conversion_needs_no_file(corpus_folder, tmp_path):
    (tmp_path / "noise").mkdir()
    noise = mixed_speech(tmp_path / "noise")  # segments of longer files too
    plain = loader_of(corpus_folder, noise)
    items = [Item(epoch, np.arange(40)) for epoch in range(12)]
    wanted = [plain.load(item).batch.noise for item in items]
    loader = loader_of(corpus_folder, noise, cache=str(tmp_path / "cache"))
    first = [loader.load(item).batch.noise for item in items]
    for file in (*(f"{i}.wav" for i in range(0, 24, 4)), "long.flac", "long.ogg"):  # 16 kHz, mono
        (tmp_path / "noise" / file).unlink()
    again = [loader.load(item).batch.noise for item in items]
    for found in (first, again):
        for mine, plainly in zip(found, wanted, strict=True):
            assert torch.equal(mine.x, plainly.x)
            assert torch.equal(mine.lengths, plainly.lengths)


def test_a_kept_part_of_an_utterance_is_that_part(corpus_folder, tmp_path):
    loader = loader_of(corpus_folder, cache=str(tmp_path / "cache"))
    everything(loader)
    whole = loader.decoded.get(30).samples
    for part in (slice(0, 100), slice(517, 1_000), slice(len(whole) - 9, len(whole) + 50)):
        assert np.array_equal(loader.decoded.get(30, part).samples, whole[part])


def test_noise_that_speech_has_kept_is_converted_part_by_part(corpus_folder, tmp_path):
    """Speech is converted whole, and the same lines are the same file of kept samples."""
    plain = loader_of(corpus_folder, corpus_folder)
    loader = loader_of(corpus_folder, corpus_folder, cache=str(tmp_path / "cache"))
    wanted = everything(plain).batch.noise.x
    for _ in range(2):
        assert torch.equal(everything(loader).batch.noise.x, wanted)


def test_noise_that_ends_before_its_line_says_is_as_good_as_broken_there(corpus_folder, tmp_path):
    """The kept samples end where the file does; who asks for more gets another clip, as without them."""
    noises = tmp_path / "noise"
    noises.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for i in range(8):  # by up to 50 ms
        soundfile.write(noises / f"{i}.wav", 0.1 * rng.standard_normal(RATE - 100 * i), RATE)
        lines.append({"audio_filepath": f"{i}.wav", "duration": 1.0})
    noise = write(noises / "noise.jsonl", *lines)

    def drawn(**more):
        source = loader_of(corpus_folder, noise, **more).noise
        bad = []
        found = [source.draw(size, np.random.default_rng(size), bad) for size in range(1, 4000, 5)]
        return np.concatenate(found), bad

    wanted, told = drawn()
    assert told
    for _ in range(2):
        found, bad = drawn(cache=str(tmp_path / "cache"))
        assert np.array_equal(found, wanted)
        assert bad == told


def test_noise_that_is_broken_elsewhere_is_read_where_it_is_sound(corpus_folder, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "noise.flac"
    soundfile.write(path, 0.1 * rng.standard_normal(50 * RATE), RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    noise = write(tmp_path / "noise.jsonl", {"audio_filepath": "noise.flac", "duration": 50.0})
    found = [
        everything(loader_of(corpus_folder, noise, **more))
        for more in ({}, {"cache": str(tmp_path / "cache")})
    ]
    assert torch.equal(found[0].batch.noise.x, found[1].batch.noise.x)
    assert found[0].bad_noise == found[1].bad_noise != []


def test_what_cannot_be_decoded_is_not_kept(corpus_folder, tmp_path):
    (corpus_folder.parent / "3.wav").write_bytes(b"broken")
    for _ in range(2):
        assert len(everything(loader_of(corpus_folder, cache=str(tmp_path / "cache"))).bad) == 1


def test_threads_and_copies_share_it(corpus_folder, tmp_path):
    loader = loader_of(corpus_folder, cache=str(tmp_path / "cache"))
    wanted = everything(loader_of(corpus_folder)).batch.audio.x
    decoded.opened.cache_clear()
    copy = pickle.loads(pickle.dumps(loader))
    with ThreadPoolExecutor(4) as pool:
        for loaded in pool.map(everything, [loader, copy] * 4):
            assert torch.equal(loaded.batch.audio.x, wanted)


@pytest.mark.parametrize("change", ["manifest", "rate", "filter", "boot"])
def test_other_lines_rates_and_boots_begin_anew(corpus_folder, tmp_path, monkeypatch, change):
    cache = tmp_path / "cache"
    everything(loader_of(corpus_folder, cache=str(cache)))
    before = set(cache.iterdir())
    settings = {"rate": {"sample_rate": 8_000}, "filter": {"min_seconds": 0.5}}.get(change, {})
    if change == "manifest":
        lines = corpus_folder.read_text().splitlines(keepends=True)
        corpus_folder.write_text("".join(lines[::-1]))
    if change == "boot":
        monkeypatch.setattr(decoded, "BOOT", tmp_path / "boot")
        (tmp_path / "boot").write_text("another")
    loader = loader_of(corpus_folder, cache=str(cache), **settings)
    assert loader.decoded.get(0) is None
    assert torch.equal(
        everything(loader).batch.audio.x, everything(loader_of(corpus_folder, **settings)).batch.audio.x
    )
    kept = set(cache.iterdir())
    assert (kept & before == set()) == (change == "boot")  # what a crash may have spoilt is gone


def test_a_full_disk_costs_nothing_but_time(corpus_folder, tmp_path, caplog):
    loader = loader_of(corpus_folder, cache=str(tmp_path / "cache"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = 4 * int(loader.decoded.starts[3])  # room for three utterances
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with caplog.at_level(logging.WARNING):
            full = everything(loader)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(full.batch.audio.x, everything(loader_of(corpus_folder)).batch.audio.x)
    assert caplog.text.count("decoded audio is kept no longer") == 1
    fresh = Decoded(load([corpus_folder], Data()), loader.cfg)
    assert [fresh.get(row) is not None for row in range(5)] == [True, True, True, False, False]


def test_a_clip_longer_than_its_place_is_decoded_again(corpus_folder, tmp_path):
    loader = loader_of(corpus_folder, cache=str(tmp_path / "cache"))
    one = Item(0, np.arange(1))
    clip = loader.hear(0, loader.speech.utterance(0))
    shutil.rmtree(tmp_path / "cache")
    decoded.opened.cache_clear()
    loader.decoded = Decoded(loader.speech, loader.cfg)
    long = type(clip)(np.tile(clip.samples, 9), converted=False)
    loader.decoded.put(0, long)
    assert loader.decoded.get(0) is None
    assert loader.load(one).counts["utterances"] == 1


def test_streams_keep_their_noise(tmp_path):
    """Of both kinds: what a step adds and what is mixed in while reading."""
    (tmp_path / "noise").mkdir()
    noise = mixed_speech(tmp_path / "noise")
    soundfile.write(tmp_path / "speech.flac", signal_of(2.0, RATE), RATE)
    clips = [clip_of({"audio_filepath": "speech.flac", "duration": 2.0}, tmp_path, row=i) for i in range(40)]
    mix = Mix(prob=1.0, paths=[str(noise)])
    plain = hear(streams_of(str(noise), mix=mix), *clips)
    settings = {"mix": mix, "cache": str(tmp_path / "cache")}
    first = hear(streams_of(str(noise), **settings), *clips)
    loader = streams_of(str(noise), **settings)
    for file in (*(f"{i}.wav" for i in range(0, 24, 4)), "long.flac", "long.ogg"):  # 16 kHz, mono
        (tmp_path / "noise" / file).unlink()
    again = hear(loader, *clips)
    for heard in (first, again):
        assert torch.equal(heard.batch.noise.x, plain.batch.noise.x)
        assert torch.equal(heard.batch.noisy.x, plain.batch.noisy.x)
        assert heard.bad_noise == plain.bad_noise


def test_where_it_does_not_apply_it_is_refused(corpus_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(HarkError, match=r"data\.cache=.*file: cannot be written"):
        Loader(load([corpus_folder], Data()), None, Data(cache=str(tmp_path / "file")), seed=0)
