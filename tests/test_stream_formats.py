"""Manifests, CutSets and Shars as sources of streams: each of their utterances is heard as it was written."""

import json

import numpy as np
import pytest
from lhotse import CutSet, MonoCut, MultiCut, Recording
from lhotse.cut import PaddingCut

from tests.sounds import RATE, write
from tests.sources import assert_heard, clips, cuts_of, entry, hear, ids, one, packed, shar, sound, tar

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_manifest_gives_its_lines_whole_and_in_order(tmp_path):
    for k in range(3):
        sound(tmp_path / f"a{k}.wav", 0.5 + k, k)
    path = write(
        tmp_path / "m.jsonl",
        entry("a0.wav", 0.5, text="naïve"),
        entry("a9.wav", _skipme=True),
        entry("a1.wav", 1.5, id="b"),
        {"audio_filename": "a2.wav", "duration": 2.5},
    )
    path.write_text(path.read_text() + "\n")
    stream = one(path)
    assert (len(stream), stream.share, stream.tags, stream.name) == (3, 1.0, {}, str(path))
    assert stream.durations.tolist() == [0.5, 1.5, 2.5]
    assert stream.durations.dtype == np.float32
    assert stream.left_out == {"_skipme": 1}
    (shard,) = stream.shards
    assert [(clip.row, clip.source, clip.start, clip.speed) for clip in shard.clips(1, 3)] == [
        (1, 0, 0.0, 1.0),
        (2, 0, 0.0, 1.0),
    ]
    for k, clip in enumerate(clips(stream)):
        assert clip.audio is None
        assert_heard(hear(clip)[1], 0.5 + k, k)
    assert json.loads(clips(stream)[0].line)["text"] == "naïve"


def test_offset_together_with_sampling_rate(tmp_path):
    sound(tmp_path / "long.wav", 4.0, 1)
    tar(tmp_path / "audio_0.tar", [("long.flac", packed(4.0, 1))])
    segments = [(0.0, 1.0), (1.5, 0.5), (3.0, 1.0)]
    for name, extra in (("long.wav", {}), ("long.flac", {"tar": str(tmp_path / "audio_0.tar")})):
        path = write(
            tmp_path / f"{name}.jsonl",
            *[entry(name, d, offset=o, sampling_rate=RATE, sample_rate=RATE) for o, d in segments],
        )
        found = [hear(clip) for clip in clips(one({"path": str(path), **extra}))]
        assert len({name for name, _ in found}) == 3
        for (start, seconds), (_, samples) in zip(segments, found, strict=True):
            assert len(samples) == seconds * RATE
            assert_heard(samples, seconds, 1, start)


@pytest.mark.parametrize("zipped", [False, True])
def test_cutsets_are_read(tmp_path, zipped):
    cuts = cuts_of(tmp_path)
    stereo = Recording.from_file(sound(tmp_path / "stereo.wav", 1.0, channels=2))
    cuts += [
        MultiCut("multi", 0.2, 0.5, [0, 1], recording=stereo),
        cuts[0].append(cuts[1]).with_id("joined"),
        cuts[0].append(cuts[1]).with_id("muted"),
        cuts[0].pad(duration=2.0).with_id("padded"),
        PaddingCut("silence", 1.0, RATE, -23.0, num_samples=RATE),
        MonoCut("features", 0.0, 1.0, 0),
    ]
    path = tmp_path / ("some.jsonl.gz" if zipped else "some.jsonl")
    cuts[-4].tracks[1].mute = True
    CutSet.from_cuts(cuts).to_file(path)
    stream = one(path)
    assert stream.durations.tolist() == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9, 0.5, 1.1, 0.5, 2.0])
    assert stream.left_out == {"PaddingCut": 1, "without a recording": 1}
    found = clips(stream)
    for k in range(5):
        assert found[k].audio is None
        name, samples = hear(found[k])
        assert name == f"cut{k}"
        assert_heard(samples, (k + 5) / 10, k, 0.1)
    assert list(stream.shards[0].clips(3, 5)) == found[3:5]


def test_a_cut_may_leave_its_type_out(tmp_path):
    cut = cuts_of(tmp_path, 1)[0].to_dict()
    del cut["type"]
    (clip,) = clips(one(write(tmp_path / "cuts.jsonl", cut)))
    assert_heard(hear(clip)[1], 0.5, 0, 0.1)


def test_a_shar_gives_its_audio_by_offset(tmp_path):
    folder = shar(tmp_path / "shar", [*cuts_of(tmp_path, 7), MonoCut("features", 0.0, 1.0, 0)])
    stream = one(folder)
    assert [len(shard.durations) for shard in stream.shards] == [3, 3, 1]
    assert stream.left_out == {"without a recording": 1}
    for k, clip in enumerate(clips(stream)):
        assert clip.audio is not None
        assert clip.row == k % 3
        name, samples = hear(clip)
        assert name == f"cut{k}"
        assert_heard(samples, (k + 5) / 10, k, 0.1)


def test_a_shar_is_named_by_its_lists_or_without_tars(tmp_path):
    folder = shar(tmp_path / "shar", cuts_of(tmp_path, 7))
    other = shar(tmp_path / "other", [cut.with_id(f"other-{cut.id}") for cut in cuts_of(tmp_path, 2)])
    pattern = folder / "recording.{000000..000002}.tar"
    stream = one(
        {
            "fields": {
                "cuts": [*map(str, sorted(folder.glob("cuts.*"))), str(other / "cuts.000000.jsonl.gz")],
                "recording": [str(pattern), str(other / "recording.000000.tar")],
            }
        }
    )
    assert ids(stream) == [*(f"cut{k}" for k in range(7)), "other-cut0", "other-cut1"]
    for clip in clips(stream):
        assert hear(clip)[0] == json.loads(clip.line)["id"]
    alone = tmp_path / "alone"
    alone.mkdir()
    CutSet.from_cuts(cuts_of(tmp_path, 2)).to_file(alone / "cuts.000000.jsonl.gz")
    assert_heard(hear(clips(one(alone))[1])[1], 0.6, 1, 0.1)
