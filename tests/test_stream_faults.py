"""Faults of the files of streams: each is one line that names the place, and nothing is taken for sound."""

import json

import pytest
from lhotse import CutSet

from research.config import Streams
from research.data.streams.sources import open_streams
from tests.sounds import write
from tests.sources import cuts_of, entry, manifests, one, refused, shar, sharded, tar

pytestmark = pytest.mark.usefixtures("own_cache")


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


def test_a_shar_whose_parts_do_not_match(tmp_path):
    folder = shar(tmp_path / "shar", cuts_of(tmp_path, 6))
    swap = (folder / "recording.000000.tar").read_bytes()
    (folder / "recording.000000.tar").write_bytes((folder / "recording.000001.tar").read_bytes())
    (folder / "recording.000001.tar").write_bytes(swap)
    refused(folder, "cuts.000000.jsonl.gz:1: its audio is not in", "recording.000000.tar (and 2 more)")


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
