"""Sources of streams: every format that is read, every way to name it, and every fault with its one outcome."""

import gzip
import io
import json
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from lhotse import CutSet, MonoCut, MultiCut, Recording
from lhotse.cut import PaddingCut
from lhotse.shar import SharWriter

from research.config import Streams
from research.data import scan
from research.data.streams import gather, index, lines, unzip
from research.data.streams.decode import decode
from research.data.streams.patterns import expand
from research.data.streams.sources import open_streams
from research.errors import HarkError
from tests.sounds import RATE, signal_of, write


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hark" / "streams"


def sound(path, seconds, seed=0, channels=1):
    """Write a file; what is in it depends on the seed."""
    soundfile.write(path, signal_of(seconds, RATE, channels, seed), RATE)
    return path


def packed(seconds, seed=0):
    """The bytes of a FLAC."""
    file = io.BytesIO()
    soundfile.write(file, signal_of(seconds, RATE, seed=seed), RATE, format="flac")
    return file.getvalue()


def tar(path, members):
    """Write a tar of (name, bytes)."""
    with tarfile.open(path, "w") as file:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def entry(name, seconds=1.0, **more):
    return {"audio_filepath": name, "duration": seconds, **more}


def sharded(folder, shards=3, size=4):
    """NeMo's tars, a manifest for each, and one for all: utterance k is (k + 5) / 10 s long, its signal that of seed k."""
    (folder / "sharded_manifests").mkdir(parents=True)
    every = []
    for shard in range(shards):
        numbers = range(shard * size, (shard + 1) * size)
        tar(folder / f"audio_{shard}.tar", [(f"u{k}.flac", packed((k + 5) / 10, k)) for k in numbers])
        entries = [entry(f"u{k}.flac", (k + 5) / 10, shard_id=shard) for k in numbers]
        write(folder / "sharded_manifests" / f"manifest_{shard}.json", *entries)
        every += entries
    write(folder / "tarred_audio_manifest.json", *every)
    return folder


def cuts_of(folder, count=5):
    """Cut k is (k + 5) / 10 s of the signal of seed k, from 0.1 s on."""
    cuts = []
    for k in range(count):
        recording = Recording.from_file(sound(folder / f"c{k}.wav", 1 + k / 10, k))
        cuts.append(MonoCut(f"cut{k}", 0.1, (k + 5) / 10, 0, recording=recording))
    return cuts


def shar(folder, cuts, size=3):
    folder.mkdir(exist_ok=True)
    with SharWriter(folder, {"recording": "flac"}, shard_size=size) as writer:
        for cut in cuts:
            writer.write(cut)
    return folder


def one(entry, **settings):
    (stream,) = open_streams([str(entry) if not isinstance(entry, dict) else entry], Streams(**settings))
    return stream


def clips(stream):
    return [clip for shard in stream.shards for clip in shard.clips(0, len(shard.durations))]


def hear(clip):
    """Id and samples."""
    name, found = decode(clip, {}, Streams())
    return name, found.samples


def ids(stream):
    return [
        json.loads(clip.line).get("id") or json.loads(clip.line)["audio_filepath"] for clip in clips(stream)
    ]


def refused(entry, *words, **settings):
    with pytest.raises(HarkError) as caught:
        one(entry, **settings)
    told = str(caught.value)
    assert "\n" not in told
    for word in words:
        assert str(word) in told
    return told


def assert_heard(samples, seconds, seed, start=0.0):
    whole = signal_of(start + seconds, RATE, seed=seed)[:, 0]
    assert np.abs(samples - whole[round(start * RATE) :]).max() < 1e-3  # 16 bits


# formats


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


def test_tars_are_read_by_any_of_their_names(tmp_path):
    folder = sharded(tmp_path / "set")
    tars = str(folder / "audio__OP_0..2_CL_.tar")
    manifests = str(folder / "sharded_manifests" / "manifest_{0..2}.json")
    whole = str(folder / "tarred_audio_manifest.json")
    ways = [
        {"path": manifests, "tar": tars},
        {"path": whole, "tar": tars},
        {"path": whole, "tar": [str(folder / f"audio_{k}.tar") for k in (2, 0, 1)]},
        {"type": "nemo_tarred", "manifest_filepath": [[manifests]], "tarred_audio_filepaths": [[tars]]},
        folder,
    ]
    for way in ways:
        stream = one(way)
        assert [len(shard.durations) for shard in stream.shards] == [4, 4, 4]
        assert ids(stream) == [f"u{k}.flac" for k in range(12)]
        for k, clip in enumerate(clips(stream)):
            assert clip.row == k % 4
            assert_heard(hear(clip)[1], (k + 5) / 10, k)
    (folder / "tarred_audio_manifest.json").unlink()
    assert len(one(folder)) == 12


def test_lines_of_all_tars_come_in_any_order(tmp_path):
    folder = sharded(tmp_path / "set")
    whole = folder / "tarred_audio_manifest.json"
    found = whole.read_text().splitlines()
    order = np.random.default_rng(0).permutation(12).tolist()
    whole.write_text("".join(found[k] + "\n" for k in order))
    stream = one(folder)
    assert ids(stream) == [f"u{k}.flac" for k in sorted(order, key=lambda k: k // 4)]
    for clip in clips(stream):
        assert_heard(hear(clip)[1], clip.duration, round(clip.duration * 10) - 5)


def test_segments_of_one_member_and_members_without_a_line(tmp_path):
    tar(tmp_path / "a.tar", [("./x.flac", packed(3.0, 1)), ("y.flac", b"?"), ("z-sub1.flac", packed(1.0, 2))])
    path = write(
        tmp_path / "m.json",
        entry("x.flac", 1.0, offset=0.0),
        entry("x-sub1.flac", 1.0, offset=1.0),
        entry("x-sub12.flac", 1.0, offset=2.0),
        entry("z-sub1.flac", 1.0),
    )
    found = clips(one({"path": str(path), "tar": str(tmp_path / "a.tar")}))
    for k in range(3):
        assert_heard(hear(found[k])[1], 1.0, 1, float(k))
    assert_heard(hear(found[3])[1], 1.0, 2)


def test_long_names_in_tars(tmp_path):
    name = "x" * 300 + ".flac"
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as file:
        for one_name in (name, "ü.flac"):
            info = tarfile.TarInfo(one_name)
            info.size = len(packed(1.0))
            file.addfile(info, io.BytesIO(packed(1.0)))
    path = write(tmp_path / "m.json", entry(name), entry("ü.flac"))
    for clip in clips(one({"path": str(path), "tar": str(tmp_path / "a.tar")})):
        assert_heard(hear(clip)[1], 1.0, 0)


# names


def test_patterns_stand_for_paths():
    assert expand("a_{0..2}.json", "/d") == ["/d/a_0.json", "/d/a_1.json", "/d/a_2.json"]
    assert expand("/a__OP_08..10_CL_.tar") == ["/a_08.tar", "/a_09.tar", "/a_10.tar"]
    assert expand("{a,b}/{1..2}") == ["a/1", "a/2", "b/1", "b/2"]
    assert expand("a.json,/b_{1,3}.json", "/d") == ["/d/a.json", "/b_1.json", "/b_3.json"]
    assert expand("~/a", "/d") == [str(Path("~/a").expanduser())]


def test_what_exists_is_no_pattern(tmp_path):
    path = write(tmp_path / "a,{1..2}.jsonl", entry("x.wav"))
    assert one(path).name == str(path)


def test_one_stream_of_many_manifests(tmp_path):
    for k in range(3):
        write(tmp_path / f"m_{k}.jsonl", entry(f"{k}.wav", k + 1))
    stream = one(tmp_path / "m_{0..2}.jsonl")
    assert [shard.durations.tolist() for shard in stream.shards] == [[1], [2], [3]]
    assert [clip.row for clip in clips(stream)] == [0, 0, 0]


# mixtures


def manifests(folder, **sizes):
    for name, size in sizes.items():
        write(folder / f"{name}.jsonl", *[entry(f"{name}{k}.wav") for k in range(size)])
    return {name: str(folder / f"{name}.jsonl") for name in sizes}


def shares(entries, **settings):
    found = open_streams(entries, Streams(**settings))
    assert sum(stream.share for stream in found) == pytest.approx(1)
    return [pytest.approx(stream.share) for stream in found]


def test_without_weights_utterances_count_alike(tmp_path):
    m = manifests(tmp_path, a=1, b=3)
    assert shares([m["a"], m["b"]]) == [0.25, 0.75]
    assert shares([m["a"], m["b"]], temperature=2.0) == [1 / (1 + 3**0.5), 3**0.5 / (1 + 3**0.5)]


def test_weights_multiply_down_and_tags_merge_down(tmp_path):
    m = manifests(tmp_path, a=1, b=3, c=4)
    group = {
        "sources": [{"path": m["a"], "tags": {"lang": "de"}}, m["b"]],
        "weight": 3,
        "tags": {"lang": "x", "y": 1},
    }
    entries = [group, {"path": m["c"], "weight": 1}]
    assert shares(entries) == [3 / 16, 9 / 16, 1 / 4]
    assert [stream.tags for stream in open_streams(entries, Streams())] == [
        {"lang": "de", "y": 1},
        {"lang": "x", "y": 1},
        {},
    ]


def test_a_temperature_is_of_its_level(tmp_path):
    m = manifests(tmp_path, a=1, b=4, c=20)
    entries = [{"sources": [m["a"], m["b"]], "temperature": 2.0}, m["c"]]
    assert shares(entries) == [1 / 15, 2 / 15, 0.8]
    root = [5**0.5 / (5**0.5 + 20**0.5), 20**0.5 / (5**0.5 + 20**0.5)]
    assert shares(entries, temperature=2.0) == [root[0] / 3, root[0] * 2 / 3, root[1]]


def test_a_list_in_a_file_starts_at_its_folder(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    manifests(tmp_path / "deep", a=1, b=3)
    sharded(tmp_path / "deep" / "tars", shards=1)
    shar(tmp_path / "deep" / "shar", cuts_of(tmp_path, 4))
    nemo = [
        {"type": "nemo", "manifest_filepath": "a.jsonl", "weight": 0.5, "tags": {"lang": "de"}},
        {"type": "group", "weight": 0.5, "input_cfg": "inner.yaml"},
    ]
    inner = [
        {
            "type": "nemo_tarred",
            "manifest_filepath": "tars/sharded_manifests/manifest__OP_0..0_CL_.json",
            "tarred_audio_filepaths": "tars/audio__OP_0..0_CL_.tar",
        },
        {"type": "lhotse_shar", "shar_path": "shar"},
    ]
    (tmp_path / "deep" / "mixture.yaml").write_text(yaml.safe_dump(nemo))
    (tmp_path / "deep" / "inner.yaml").write_text(yaml.safe_dump(inner))
    monkeypatch.chdir(tmp_path)
    assert shares(["deep/mixture.yaml"]) == [0.5, 0.25, 0.25]
    found = open_streams([{"path": "deep/mixture.yaml", "tags": {"set": 1}}], Streams())
    assert [stream.tags for stream in found] == [{"lang": "de", "set": 1}, {"set": 1}, {"set": 1}]
    assert [len(stream) for stream in found] == [1, 4, 4]


def test_nemos_spelling_of_everything(tmp_path):
    m = manifests(tmp_path, a=2)
    CutSet.from_cuts(cuts_of(tmp_path, 3)).to_file(tmp_path / "cuts.jsonl")
    folder = shar(tmp_path / "shar", cuts_of(tmp_path, 4))
    fields = {
        "cuts": str(folder / "cuts.{000000..000001}.jsonl.gz"),
        "recording": str(folder / "recording.{000000,000001}.tar"),
    }
    entries = [
        {"type": "nemo", "manifest_filepath": m["a"]},
        {"type": "lhotse", "cuts_path": str(tmp_path / "cuts.jsonl")},
        {"type": "lhotse_shar", "shar_path": fields},
        {"type": "group", "input_cfg": [{"shar_path": [str(folder)]}]},
    ]
    assert [len(stream) for stream in open_streams(entries, Streams())] == [2, 3, 4, 4]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"path": "A", "wieght": 1}, ["'wieght'", "did you mean 'weight'?"]),
        ({"manifest_filepth": "A"}, ["did you mean 'manifest_filepath'?"]),
        ({"type": "lhotse_shr", "shar_path": "A"}, ["'lhotse_shr'", "did you mean 'lhotse_shar'?"]),
        ({"type": "txt", "path": "A"}, ["unknown type 'txt'", "nemo_tarred"]),
        ({"type": "nemo_tarred", "manifest_filepath": "A"}, ["manifest_filepath and tarred_audio_filepaths"]),
        ({"type": "lhotse", "shar_path": "A"}, ["type lhotse has cuts_path"]),
        ({"path": "A", "manifest_filepath": "A"}, ["said twice"]),
        ({"path": "A", "sources": ["A"]}, ["one of path, fields, sources"]),
        ({"weight": 1}, ["one of path, fields, sources"]),
        ({"path": "A", "weight": 0}, ["weight is 0", "above 0"]),
        ({"path": "A", "weight": "1"}, ["weight is '1'"]),
        ({"path": "A", "tags": "de"}, ["tags is 'de'", "mapping"]),
        ({"path": "A", "temperature": 2.0}, ["temperature belongs to a group"]),
        ({"sources": ["A"], "temperature": -1}, ["temperature is -1"]),
        ({"sources": ["A"], "skip_missing": True}, ["skip_missing belongs to a source"]),
        ({"path": "A", "skip_missing": "yes"}, ["skip_missing is 'yes'"]),
        ({"sources": ["A"], "tar": "A"}, ["tar goes with path"]),
        ({"sources": [{"path": "A", "weight": 1}, "A"]}, ["a.jsonl", "has no weight"]),
        ({"sources": []}, ["must be a list of sources"]),
        ({"path": []}, ["must be a path or a list of paths"]),
        ({"path": [["A", 0.5]]}, ["0.5", "must be a path"]),
        ({"fields": {"recording": "A"}}, ["fields must be a mapping with cuts"]),
        ({"fields": {"cuts": "A", "recordings": "A"}}, ["did you mean 'recording'?"]),
        (7, ["7: a source is a path, or a mapping"]),
    ],
)
def test_entries_that_cannot_be_meant(tmp_path, entry, words):
    a = manifests(tmp_path, a=1)["a"]

    def filled(value):
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return [filled(one) for one in value] if isinstance(value, list) else a if value == "A" else value

    with pytest.raises(HarkError) as caught:
        open_streams([filled(entry)], Streams())
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_lists_that_cannot_be_read(tmp_path):
    (tmp_path / "a.yaml").write_text("[b.yaml]")
    (tmp_path / "b.yaml").write_text("- a.yaml")
    refused(tmp_path / "a.yaml", "a.yaml: is in itself, by", "b.yaml")
    (tmp_path / "a.yaml").write_text("{a: [")
    refused(tmp_path / "a.yaml", "a.yaml: is not YAML")
    (tmp_path / "a.yaml").write_text("a: 1")
    refused(tmp_path / "a.yaml", "must be a list of sources")
    refused(tmp_path / "c.yaml", "c.yaml: cannot be read")
    with pytest.raises(HarkError, match=r"data\.temperature=0"):
        open_streams([], Streams(temperature=0.0))
    with pytest.raises(HarkError, match="must be a list of sources"):
        open_streams([], Streams())


# faults of files


def test_a_missing_file_is_named_with_its_pattern(tmp_path):
    write(tmp_path / "m_0.jsonl", entry("a.wav"))
    refused(
        tmp_path / "m_{0..1}.jsonl",
        "m_1.jsonl: cannot be read (No such file",
        "one of 2 of",
        "m_{0..1}.jsonl",
    )
    refused(tmp_path / "gone.jsonl", "gone.jsonl: cannot be read")


def test_shards_without_a_partner(tmp_path):
    folder = sharded(tmp_path / "set")
    (folder / "tarred_audio_manifest.json").unlink()
    (folder / "audio_1.tar").unlink()
    refused(folder, "manifest_1.json: its partner, number 1, is missing", "audio_0.tar")
    cuts = shar(tmp_path / "shar", cuts_of(tmp_path, 4))
    (cuts / "cuts.000001.jsonl.gz").unlink()
    refused(cuts, "recording.000001.tar: its partner, number 1, is missing")


def test_a_manifest_of_all_tars_has_to_tell_them_apart(tmp_path):
    folder = sharded(tmp_path / "set")
    whole = folder / "tarred_audio_manifest.json"
    source = {"path": str(whole), "tar": str(folder / "audio_{0..1}.tar")}
    refused(source, "tarred_audio_manifest.json:9: shard_id 2 is none of", "audio_0.tar", "audio_1.tar")
    found = [json.loads(line) for line in whole.read_text().splitlines()]
    write(whole, *[{k: v for k, v in line.items() if k != "shard_id"} for line in found])
    refused(source, "tarred_audio_manifest.json:1: has no shard_id")
    write(whole, entry("u0.flac", shard_id="0"))
    refused(source, "tarred_audio_manifest.json:1: shard_id is '0'")
    (tmp_path / "more").mkdir()
    tar(tmp_path / "more" / "audio_1.tar", [])
    tars = [str(folder / "audio_1.tar"), str(tmp_path / "more" / "audio_1.tar")]
    refused({"path": str(whole), "tar": tars}, "has the number of", "one manifest cannot tell them apart")


def test_lines_without_a_member_are_refused_or_left_out(tmp_path):
    tar(tmp_path / "a.tar", [("x.flac", packed(1.0))])
    path = write(tmp_path / "m.json", entry("x.flac"), entry("y.flac"), entry("z.flac"))
    source = {"path": str(path), "tar": str(tmp_path / "a.tar")}
    refused(source, "m.json:2: its audio is not in", "a.tar (and 1 more)", "skip_missing: true")
    stream = one({**source, "skip_missing": True})
    assert (len(stream), stream.left_out) == (1, {"not in its tar": 2})


def test_a_shar_whose_parts_do_not_match(tmp_path):
    folder = shar(tmp_path / "shar", cuts_of(tmp_path, 6))
    swap = (folder / "recording.000000.tar").read_bytes()
    (folder / "recording.000000.tar").write_bytes((folder / "recording.000001.tar").read_bytes())
    (folder / "recording.000001.tar").write_bytes(swap)
    refused(folder, "cuts.000000.jsonl.gz:1: its audio is not in", "recording.000000.tar (and 2 more)")


@pytest.mark.parametrize("layout", ["nemo", "shar"])
@pytest.mark.parametrize("cut", ["data", "header", "boundary"])
def test_a_truncated_tar_gives_what_is_whole(tmp_path, caplog, layout, cut):
    if layout == "nemo":
        folder = sharded(tmp_path / "set", shards=2)
        file, name, before = folder / "audio_1.tar", "u6.flac", 2
    else:
        folder = shar(tmp_path / "set", cuts_of(tmp_path, 8), size=4)
        file, name, before = folder / "recording.000001.tar", "cut6.flac", 2
    with tarfile.open(file) as found:
        member = found.getmember(name)
    size = {
        "data": member.offset_data + member.size - 1,
        "header": member.offset + 100,
        "boundary": member.offset,
    }
    file.write_bytes(file.read_bytes()[: size[cut]])
    with caplog.at_level(logging.WARNING):
        stream = one(folder)
    assert [len(shard.durations) for shard in stream.shards] == [4, before]
    assert stream.left_out == {"cut off in its tar": 2}
    assert f"{file}: is damaged or cut off; 2 utterances are left out" in caplog.text
    for clip in clips(stream):
        hear(clip)


def test_a_tar_with_a_broken_header_gives_what_is_before(tmp_path):
    folder = sharded(tmp_path / "set", shards=1)
    with tarfile.open(folder / "audio_0.tar") as found:
        place = found.getmember("u2.flac").offset
    data = bytearray((folder / "audio_0.tar").read_bytes())
    data[place : place + 512] = b"?" * 512
    (folder / "audio_0.tar").write_bytes(data)
    stream = one(folder)
    assert (len(stream), stream.left_out) == (2, {"cut off in its tar": 2})


def test_what_is_no_tar(tmp_path):
    folder = sharded(tmp_path / "set", shards=1)
    for data in (b"", b"?" * 5000, gzip.compress((folder / "audio_0.tar").read_bytes())):
        (folder / "audio_0.tar").write_bytes(data)
        refused(folder, "audio_0.tar: cannot be read (not a tar, or one that is compressed")


def test_of_two_members_with_one_name_the_later_is_taken(tmp_path, caplog):
    tar(
        tmp_path / "a.tar",
        [("x.flac", packed(1.0, 1)), ("y.flac", packed(1.0, 2)), ("x.flac", packed(1.0, 3))],
    )
    path = write(tmp_path / "m.json", entry("x.flac"), entry("y.flac"))
    with caplog.at_level(logging.WARNING):
        stream = one({"path": str(path), "tar": str(tmp_path / "a.tar")})
    assert stream.left_out == {"replaced by a later member of its tar": 1}
    assert "a.tar: 1 members have the name of a later one" in caplog.text
    assert_heard(hear(clips(stream)[0])[1], 1.0, 3)


def test_an_id_given_twice_names_both_lines(tmp_path):
    write(tmp_path / "m_0.jsonl", entry("a.wav"), entry("b.wav", id="x"))
    write(tmp_path / "m_1.jsonl", entry("d.wav"), entry("e.wav"), entry("c.wav", id="x"))
    refused(tmp_path / "m_{0..1}.jsonl", "m_1.jsonl:3: id 'x' is taken by", "m_0.jsonl:2")
    both = [str(tmp_path / f"m_{k}.jsonl") for k in range(2)]
    assert [len(stream) for stream in open_streams(both, Streams())] == [2, 3]
    CutSet.from_cuts([*cuts_of(tmp_path, 3), *cuts_of(tmp_path, 1)]).to_file(tmp_path / "c.jsonl.gz")
    refused(tmp_path / "c.jsonl.gz", "c.jsonl.gz:4: id 'cut0' is taken by", "c.jsonl.gz:1")
    write(tmp_path / "n.jsonl", entry("a.wav", offset=1.0), entry("a.wav"), entry("a.wav", offset=1.0))
    refused(tmp_path / "n.jsonl", "n.jsonl:3: id '", "a.wav@1.0' is taken by", "n.jsonl:1")


def test_equal_hashes_of_different_ids_are_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr("research.data.entry.digest", lambda _: 7)
    assert len(one(manifests(tmp_path, a=3)["a"])) == 3


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "is not a JSON object"),
        ('{"audio_filepath": "a.wav"}', "has no duration"),
        ('{"audio_filepath": "a.wav", "duration": 0}', "duration is 0 s"),
        (
            '{"audio_filepath": "a.wav", "duration": 1, "feature_path": "f", "feature_key": "k"}',
            "data=manifest",
        ),
    ],
)
@pytest.mark.parametrize("tarred", [False, True])
def test_a_wrong_line_is_named(tmp_path, line, words, tarred):
    path = tmp_path / "m.jsonl"
    path.write_text("\n".join([json.dumps(entry("b.wav")), "", line, line]))
    tar(tmp_path / "a.tar", [("a.wav", b""), ("b.wav", b"")])
    source = {"path": str(path), "tar": str(tmp_path / "a.tar")} if tarred else path
    refused(source, "m.jsonl:3:", words, "(and 1 more)")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"type": "Supervision"}, "is a Supervision"),
        ({"id": None}, "is a cut without an id"),
        ({"duration": -1}, "duration is -1 s"),
        ({"duration": "1"}, "duration is '1'"),
        ({"type": "MixedCut"}, "is a MixedCut without tracks"),
        ({"type": "MixedCut", "tracks": [{"cut": 1}]}, "is a MixedCut without tracks"),
        ({"recording": {"sources": [{"type": "shar"}]}}, "has its audio in a Shar"),
        ({"recording": 3}, "has a recording without sources"),
    ],
)
def test_a_wrong_cut_is_named(tmp_path, change, words):
    good = cuts_of(tmp_path, 1)[0].to_dict()
    refused(write(tmp_path / "c.jsonl", good | {"id": "good"}, good | change), "c.jsonl:2:", words)


def test_what_is_empty_or_not_known(tmp_path):
    (tmp_path / "e.jsonl").write_text("\n")
    refused(tmp_path / "e.jsonl", "e.jsonl: is empty")
    write(tmp_path / "s.jsonl", entry("a.wav", _skipme=True))
    refused(tmp_path / "s.jsonl", "s.jsonl: has no utterance (left out: 1 _skipme)")
    write(tmp_path / "r.jsonl", {"id": "r", "sources": []})
    refused(tmp_path / "r.jsonl", "r.jsonl:1: is no utterance", "CutSet", "Shar")
    (tmp_path / "x.txt").write_text("x")
    refused(tmp_path / "x.txt", "x.txt: is nothing that is known", "a manifest (JSONL")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "folder: holds nothing that is known", "audio_*.tar")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refused(tmp_path / "loop", "loop: cannot be read")
    refused(tmp_path / "x.txt" / "inside", "inside: cannot be read (Not a directory)")
    write(tmp_path / "a_0.jsonl", entry("a.wav"))
    (tmp_path / "a_1.jsonl").write_text("")
    refused(tmp_path / "a_{0..1}.jsonl", "a_1.jsonl: is empty")


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    folder = shar(tmp_path / "shar", cuts_of(tmp_path, 1))

    def closed(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(folder), "iterdir", closed)  # the tests may run as root, whom no mode stops
    refused(folder, "shar: cannot be read (Permission denied)")


def test_a_truncated_gzip_is_named(tmp_path):
    CutSet.from_cuts(cuts_of(tmp_path, 5)).to_file(tmp_path / "c.jsonl.gz")
    data = (tmp_path / "c.jsonl.gz").read_bytes()
    for part in (data[: len(data) - 40], data[:60] + b"??????" + data[66:], b"no gzip"):
        (tmp_path / "c.jsonl.gz").write_bytes(part)
        refused(tmp_path / "c.jsonl.gz", "c.jsonl.gz: cannot be read (")


# the cache


def test_an_index_is_made_once_and_again_when_a_file_changes(tmp_path, monkeypatch, cache):
    folder = sharded(tmp_path / "set")
    first = clips(one(folder))
    assert len(list(cache.iterdir())) == 4
    made = []
    monkeypatch.setattr(gather, "make", lambda *job: made.append(job[0].path.name) or index.make(*job))
    assert clips(one(folder)) == first
    assert made == []
    tar(folder / "audio_1.tar", [(f"u{k}.flac", packed((k + 5) / 10, k)) for k in (7, 6, 5, 4)])
    again = clips(one(folder))
    assert made == ["audio_1.tar"]
    for clip in again:
        assert_heard(hear(clip)[1], clip.duration, json.loads(clip.line)["shard_id"] * 4 + clip.row)
    (file,) = [file for file in cache.iterdir() if file.name.endswith("nemo_tarred")]
    file.write_bytes(file.read_bytes()[:-5])
    assert clips(one(folder)) == again
    assert made[1:] == ["tarred_audio_manifest.json"]


def test_a_file_that_changes_while_in_use_is_refused(tmp_path):
    folder = sharded(tmp_path / "set", shards=1)
    stream = one(folder)
    tar(folder / "audio_0.tar", [])
    with pytest.raises(HarkError, match=r"audio_0.tar: changed while it was in use; start again"):
        clips(stream)


def test_works_without_a_cache_folder(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(one(manifests(tmp_path, a=2)["a"])) == 2
    assert "cannot be written" in caplog.text


def test_large_files_are_read_by_all_cores_to_the_same_end(tmp_path, monkeypatch):
    entries = [entry(f"é{k}.wav", 1 + k / 100, _skipme=k % 7 == 0) for k in range(200)]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in entries))
    whole = clips(one(path))
    assert len(whole) == 171
    monkeypatch.setattr(lines, "BLOCK", 7)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    assert clips(one(path)) == whole
    monkeypatch.setattr(gather, "SIZE", 1000)
    monkeypatch.setattr("research.data.pieces.SIZE", 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "third"))
    assert clips(one(path)) == whole
    path.write_text(path.read_text() + "{\n")
    refused(path, "m.jsonl:201: is not a JSON object")


def test_zipped_lines_are_read_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(unzip, "CHUNK", 100)
    monkeypatch.setattr(unzip, "APART", 2000)
    rng = np.random.default_rng(0)
    data = "".join(json.dumps(entry(f"{rng.integers(1 << 60)}.wav")) + "\n" for _ in range(400)).encode()
    (tmp_path / "m.jsonl").write_bytes(data)
    whole = (
        gzip.compress(data[:9000]) + gzip.compress(data[9000:]) + bytes(50)
    )  # two files in one, and padding
    (tmp_path / "m.jsonl.gz").write_bytes(whole)
    found, stream = [clip.line for clip in clips(one(tmp_path / "m.jsonl"))], one(tmp_path / "m.jsonl.gz")
    marks = unzip.marks_of(tmp_path / "m.jsonl.gz", *scan.stamp(tmp_path / "m.jsonl.gz"))
    assert len(marks) > 5
    for start in rng.integers(0, 390, 50):
        assert [clip.line for clip in stream.shards[0].clips(start, start + 10)] == found[start : start + 10]
    with unzip.unzipped(tmp_path / "m.jsonl.gz") as file:
        assert [file.seek(17_000), file.read(30), file.seek(100), file.read(30)] == [
            17_000,
            data[17_000:17_030],
            100,
            data[100:130],
        ]
        file.seek(0)
        assert file.read() == data
