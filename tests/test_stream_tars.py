"""Tars as sources of streams: every way to name them, members of every kind, and tars that are damaged."""

import gzip
import io
import json
import logging
import tarfile

import numpy as np
import pytest

from tests.sounds import write
from tests.sources import (
    assert_heard,
    clips,
    cuts_of,
    entry,
    hear,
    ids,
    one,
    packed,
    refused,
    shar,
    sharded,
    tar,
)

pytestmark = pytest.mark.usefixtures("own_cache")


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
