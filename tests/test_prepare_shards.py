"""Sharded sets: what goes in comes out, whoever reads it."""

import json

import numpy as np
import pytest
import soundfile

from research.config import Streams
from research.data.corpora import codec, shar, tar
from research.data.corpora.shards import Settings
from research.data.streams.clip import Portion
from research.data.streams.lanes import in_sequence
from research.data.streams.loader import StreamLoader
from research.data.streams.sources import open_streams
from tests.corpora import LAYOUTS, ODD_IDS, noise, odd_corpus, shar_of, sharded, summary_of, tar_of
from tests.sounds import RATE

pytestmark = pytest.mark.usefixtures("module_cache")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return odd_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize("kind", ["flac", "wav"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_sample_comes_back(layout, kind, corpus, tmp_path):
    path, samples = corpus
    out = sharded(layout, [path], tmp_path, Settings(shards=3, codec=kind))
    found = {"shar": shar_of, "tar": tar_of}[layout](out)
    assert found.keys() == samples.keys()
    for name, (_, x) in found.items():
        assert np.array_equal(x * 32768, samples[name]), name
    assert summary_of(out)["utterances"] == len(samples)
    assert (out / "LICENSES.md").read_text() == "# Licences\n\nmine\n"


def test_lhotse_finds_words_and_all_other_keys(corpus, tmp_path):
    path, _ = corpus
    found = shar_of(sharded("shar", [path], tmp_path, Settings()))
    cut, _ = found["a.b/c.d"]
    said = cut.supervisions[0]
    assert (said.text, said.speaker, said.language) == ("teßt 1", "s1", "de")
    assert cut.custom["phones"] == [[0, 0.1, "a"]]
    assert cut.custom["sr0"] == 44_100
    segment, _ = found["segment 2"]
    assert (segment.start, segment.duration, segment.custom["source_audio_offset"]) == (0, 1.0, 2.0)
    assert segment.supervisions == []
    stereo, _ = found["stereo"]
    assert (stereo.sampling_rate, stereo.channel) == (8000, [0, 1])


def test_the_tar_manifest_has_all_lines(corpus, tmp_path):
    path, samples = corpus
    out = sharded("tar", [path], tmp_path, Settings(shards=3))
    lines = [json.loads(line) for line in (out / "tarred_audio_manifest.json").read_text().splitlines()]
    assert [line["shard_id"] for line in lines] == sorted(line["shard_id"] for line in lines)
    assert {line["id"] for line in lines} == samples.keys()
    by = {line["id"]: line for line in lines}
    segment = by["segment 3"]
    assert "offset" not in segment
    assert (segment["duration"], segment["source_audio_offset"], segment["sampling_rate"]) == (1.0, 3.0, RATE)
    assert (by["a.b/c.d"]["phones"], by["a.b/c.d"]["sr0"]) == ([[0, 0.1, "a"]], 44_100)


def test_names_in_tars_mean_one_file_to_every_reader():
    """Readers cut names at the first dot, take no folders, and take -sub<k> for a segment of another file."""
    taken = set()
    names = [tar.free(tar.flat(name), taken) for name in ODD_IDS]
    assert len(set(names)) == len(ODD_IDS)
    assert names[1:4] == ["a_b_c_d", "a_b_c_d_1", "x_sub1"]
    assert not any(set("./") & set(name) for name in names)


def test_ids_in_shar_stay_where_lhotse_can_find_them():
    keys = [shar.safe(name) for name in ODD_IDS]
    assert len(set(keys)) == len(ODD_IDS)
    assert [key for key, name in zip(keys, ODD_IDS, strict=True) if key == name] == [
        *ODD_IDS[:4],
        ODD_IDS[-1],
    ]


def test_opus_keeps_lengths_and_sounds_alike(tmp_path):
    t = np.arange(3 * RATE) / RATE
    soundfile.write(tmp_path / "a.wav", 0.3 * np.sin(2 * np.pi * 440 * t), RATE)
    path = tmp_path / "m.jsonl"
    path.write_text('{"audio_filepath": "a.wav", "duration": 1.7, "offset": 0.5}\n')
    for layout, read in (("shar", shar_of), ("tar", tar_of)):
        out = sharded(layout, [path], tmp_path / layout, Settings(codec="opus"))
        ((_, x),) = read(out).values()
        wanted = 0.3 * np.sin(2 * np.pi * 440 * t)[RATE // 2 :][: len(x)]
        assert len(x) == round(1.7 * RATE)
        assert np.corrcoef(x[:, 0], wanted)[0, 1] > 0.99
        assert "lossy" in summary_of(out)["notes"][0]


def test_an_ogg_stream_without_its_number_is_still_sound():
    from zlib import crc32

    assert codec.checksum(b"123456789") == 0x89A1897F, "CRC-32 without mirroring and inversions"
    x = noise(2.0)
    first, second = (codec.encode(x, RATE, "opus") for _ in range(2))
    assert first == second
    assert crc32(first) == crc32(codec.name_stream(first))
    assert len(codec.decode(first)[0]) == len(x)


def test_another_rate_is_resampled(corpus, tmp_path):
    path, samples = corpus
    found = tar_of(sharded("tar", [path], tmp_path, Settings(sample_rate=8000)))
    assert np.array_equal(found["stereo"][1] * 32768, samples["stereo"])
    line, x = found["segment 1"]
    assert (len(x), line["duration"], line["sampling_rate"]) == (8000, 1.0, 8000)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_our_own_streams_read_them(layout, corpus, tmp_path):
    path, samples = corpus
    cfg = Streams()
    out = sharded(layout, [path], tmp_path, Settings(shards=3, sample_rate=RATE))
    streams = open_streams([str(out / "shar" if layout == "shar" else out)], cfg)
    batch = StreamLoader(cfg, streams, None, 0).load(Portion(0, 0, 0, list(in_sequence(0, streams[0])))).batch
    keys = {shar.safe(name) if layout == "shar" else name: name for name in samples}
    assert {keys[key] for key in batch.ids} == samples.keys()
    for key, x, length in zip(batch.ids, batch.audio.x, batch.audio.lengths, strict=True):
        if keys[key] != "stereo":
            assert np.array_equal(x[:length].numpy() * 32768, samples[keys[key]][:, 0])
