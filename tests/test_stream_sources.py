"""What may be typed as sources: patterns, lists, weights, NeMo's spelling, and what cannot be meant."""

from pathlib import Path

import pytest
import yaml
from lhotse import CutSet

from research.config import Streams
from research.data.streams.patterns import expand
from research.data.streams.sources import open_streams
from research.errors import HarkError
from tests.sounds import write
from tests.sources import clips, cuts_of, entry, manifests, one, refused, shar, sharded

pytestmark = pytest.mark.usefixtures("own_cache")


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
