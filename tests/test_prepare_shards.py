"""Sharded sets: what goes in comes out, whoever reads it and however often the making was stopped."""

import hashlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tarfile
import time
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from research.config import Streams
from research.data.corpora import codec, command, shar, tar
from research.data.corpora.shards import Settings, prepare
from research.data.streams.clip import Portion
from research.data.streams.lanes import in_sequence
from research.data.streams.loader import StreamLoader
from research.data.streams.sources import open_streams
from research.errors import HarkError
from tests.test_prepare_local import run

RATE = 16_000
RNG = np.random.default_rng(0)
LAYOUTS = ["shar", "tar"]
ODD_IDS = [
    "слово/ein Wort",
    "a.b/c.d",
    "a_b/c_d",
    "x-sub1",
    "/rooted//twice/",
    "../up",
    "100%",
    "",
    "naïve 音",
]
sharded = partial(prepare, workers=1)


def noise(seconds, channels=1, rate=RATE):
    return RNG.integers(-8000, 8000, (round(seconds * rate), channels)).astype(np.int16)


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """A manifest, and the samples that each of its ids stands for."""
    folder = tmp_path_factory.mktemp("corpus")
    lines, samples = [], {}

    def line(name, file, x, **keys):
        where = {"id": name, "audio_filepath": file, "duration": len(x) / keys.pop("rate", RATE)}
        lines.append(where | keys)
        samples[name] = x

    for i, name in enumerate(ODD_IDS):
        x = noise(0.2 + i / 37)
        soundfile.write(folder / f"{i}.flac", x, RATE)
        line(
            name,
            f"{i}.flac",
            x,
            text=f"teßt {i}",
            speaker=f"s{i}",
            lang="de",
            phones=[[0, 0.1, "a"]],
            sr0=44_100,
        )
    long = noise(5.0)
    soundfile.write(folder / "long.wav", long, RATE)
    for i in range(4):
        line(f"segment {i}", "long.wav", long[i * RATE : (i + 1) * RATE], offset=float(i), sampling_rate=RATE)
    soundfile.write(folder / "stereo.wav", stereo := noise(0.5, channels=2, rate=8000), 8000)
    line("stereo", "stereo.wav", stereo, text="", rate=8000)
    (folder / "LICENSES.md").write_text("# Licences\n\nmine\n")
    path = folder / "all.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path, samples


@pytest.fixture(scope="module")
def broken(corpus):
    """The same with two files that cannot be decoded, one that is too loud, one short, one long, one to skip."""
    path, _ = corpus
    folder = path.parent
    (folder / "broken.wav").write_bytes(b"not audio")
    soundfile.write(folder / "loud.wav", np.array([0.5, 1.5, -2.0] * 800, np.float32), RATE, subtype="FLOAT")
    more = [
        {"id": "broken", "audio_filepath": "broken.wav", "duration": 1.0},
        {"id": "gone", "audio_filepath": "gone.wav", "duration": 1.0},
        {"id": "loud", "audio_filepath": "loud.wav", "duration": 0.15},
        {"id": "short", "audio_filepath": "0.flac", "duration": 0.01},
        {"id": "skipped", "audio_filepath": "0.flac", "duration": 0.1, "_skipme": True},
        {"id": "lengthy", "audio_filepath": "long.wav", "duration": 4.9},
    ]
    (folder / "more.jsonl").write_text("".join(json.dumps(one) + "\n" for one in more))
    return [path, folder / "more.jsonl"]


def shar_of(out):
    """What lhotse itself reads: id -> (cut, samples)."""
    from lhotse import CutSet

    cuts = list(CutSet.from_shar(in_dir=out / "shar"))
    return {(cut.custom or {}).get("id", cut.id): (cut, cut.load_audio().T) for cut in cuts}


def tar_of(out):
    """What NeMo reads: id -> (line, samples)."""
    found = {}
    for number in range(len(list(out.glob("audio_*.tar")))):
        lines = (out / "sharded_manifests" / f"manifest_{number}.json").read_text().splitlines()
        with tarfile.open(out / f"audio_{number}.tar") as opened:
            for line in map(json.loads, lines):
                data = opened.extractfile(line["audio_filepath"]).read()
                found[line["id"]] = line, soundfile.read(BytesIO(data), dtype="float32", always_2d=True)[0]
                assert line["shard_id"] == number
            assert len(opened.getnames()) == len(set(opened.getnames())) == len(lines)
    return found


def summary_of(out):
    return json.loads((out / "summary.json").read_text())


def sums(out):
    """SHA-256 of every file."""
    files = (file for file in out.rglob("*") if file.is_file())
    return {str(file.relative_to(out)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


# ---- what goes in comes out ----


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


# ---- how it is shared out ----


def ids(out):
    return [json.loads(line)["id"] for line in (out / "tarred_audio_manifest.json").read_text().splitlines()]


def test_order_and_size_of_shards(corpus, tmp_path):
    path, samples = corpus
    kept = sharded("tar", [path], tmp_path / "kept", Settings(seed=-1, shard_size=5))
    assert ids(kept) == list(samples)
    sizes = [len((kept / f"sharded_manifests/manifest_{i}.json").read_text().splitlines()) for i in range(3)]
    assert sizes == [5, 5, 4]
    first, second = (sharded("tar", [path], tmp_path / f"{s}", Settings(seed=s)) for s in (0, 1))
    assert ids(first) != ids(second) != list(samples)
    assert sorted(ids(first)) == sorted(samples)


def test_what_is_left_out_is_counted_and_told(broken, tmp_path, caplog):
    limits = Settings(min_seconds=0.1, max_seconds=4.0, shards=2)
    out = sharded("tar", broken, tmp_path / "out", limits)
    summary = summary_of(out)
    assert summary["dropped"] == {"_skipme": 1, "under 0.1 s": 1, "over 4 s": 1, "undecodable": 2}
    assert summary["utterances"] == len(ids(out)) == len(ODD_IDS) + 6
    assert "broken: " in caplog.text
    assert "gone.wav: is missing" in caplog.text
    assert any("gone.wav: is missing" in note for note in summary["notes"])
    assert "1 utterances went beyond full scale and were clipped" in summary["notes"]
    assert "left out: 1 _skipme, 1 under 0.1 s, 1 over 4 s, 2 undecodable" in command.report(out)


def test_what_cannot_be_is_one_line(corpus, broken, tmp_path):
    path, _ = corpus
    alone = tmp_path / "alone.jsonl"
    alone.write_text(json.dumps({"audio_filepath": str(path.parent / "broken.wav"), "duration": 1.0}) + "\n")
    deep = tmp_path / "deep.jsonl"
    soundfile.write(tmp_path / "deep.wav", np.zeros((800, 9)), RATE)
    deep.write_text(json.dumps({"audio_filepath": "deep.wav", "duration": 0.05}) + "\n")
    cases = [
        ([path], Settings(codec="mp3"), "--codec mp3: unknown .there are: flac, wav, opus"),
        ([path], Settings(shards=0), "--shards 0: at least 1"),
        ([path], Settings(shards=99), "--shards 99: there are only 14 utterances"),
        ([path], Settings(seed=-2), "--seed -2"),
        ([path], Settings(codec="opus", sample_rate=44_100), "not 44100; add --sample-rate 16000"),
        ([alone], Settings(), r"none of the 1 utterances of shard 0 can be decoded .*broken.wav"),
        ([deep], Settings(), "takes no audio of 9 channels at 16000 Hz; use --codec wav"),
    ]
    for paths, settings, told in cases:
        with pytest.raises(HarkError, match=told) as caught:
            sharded("tar", paths, tmp_path / "out", settings)
        assert "\n" not in str(caught.value)
        for file in (tmp_path / "out").rglob("*.json"):
            file.unlink()


def test_the_command_has_words_for_all_of_it(corpus, tmp_path, capsys):
    path, _ = corpus
    words = (
        "--shards 2 --codec wav --sample-rate 8000 --workers 1 --seed -1 --min-seconds 0.3 --max-seconds 2"
    )
    for layout in LAYOUTS:
        run(layout, str(path), "--out", str(tmp_path / layout), *words.split())
        assert "left out: 4 under 0.3 s" in capsys.readouterr().out
        inputs = summary_of(tmp_path / layout)["inputs"]
        assert (inputs["shards"], inputs["codec"], inputs["sample_rate"], inputs["seed"]) == (
            2,
            "wav",
            8000,
            -1,
        )


# ---- stopped, and typed again ----


def killed_at(moment, *args):
    """Prepare in a process that kills itself at a certain renaming of a file."""
    count, real = 0, Path.replace

    def replace(self, target):
        nonlocal count
        count += 1
        if count == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, target)

    Path.replace = replace
    sharded(*args)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_killed_anywhere_it_goes_on_to_the_same_bytes(layout, corpus, tmp_path):
    path, _ = corpus
    settings = Settings(shards=3)
    wanted = sums(sharded(layout, [path], tmp_path / "calm", settings))
    fork = multiprocessing.get_context("fork")
    for moment in range(1, 13):
        out = tmp_path / f"{moment}"
        process = fork.Process(target=killed_at, args=(moment, layout, [path], out, settings))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert not (out / "summary.json").exists()
        assert sums(sharded(layout, [path], out, settings)) == wanted


def test_workers_end_with_their_parent_and_are_no_matter(tmp_path):
    lines = []
    for i in range(16):
        soundfile.write(tmp_path / f"{i}.wav", noise(2.0), RATE)
        lines.append({"audio_filepath": f"{i}.wav", "duration": 2.0})
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, settings = tmp_path / "out", Settings(shards=8, codec="opus")
    words = f"prepare tar {path} --out {out} --shards 8 --codec opus --workers 2".split()
    script = "import sys; from research.cli import main; sys.exit(main())"
    process = psutil.Popen([sys.executable, "-c", script, *words])
    while not list((out / ".parts").glob("0*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    children = process.children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(children, timeout=60)[1] == []
    assert not (out / "summary.json").exists()
    resumed = sums(sharded("tar", [path], out, settings))
    assert resumed == sums(sharded("tar", [path], tmp_path / "calm", settings))


def test_a_finished_shard_is_not_made_again_and_a_lost_one_is(corpus, tmp_path):
    path, _ = corpus
    settings = Settings(shards=3)
    out = sharded("tar", [path], tmp_path, settings)
    wanted, before = sums(out), (out / "audio_1.tar").stat().st_mtime_ns
    (out / "audio_2.tar").unlink()
    assert sums(sharded("tar", [path], tmp_path, settings)) == wanted
    assert (out / "audio_1.tar").stat().st_mtime_ns == before


def test_another_set_is_not_mixed_in(corpus, tmp_path):
    path, _ = corpus
    mine = tmp_path / "m.jsonl"
    mine.write_text(
        (path.parent / "all.jsonl").read_text().replace('filepath": "', f'filepath": "{path.parent}/')
    )
    sharded("tar", [mine], tmp_path / "out", Settings())
    mine.write_text(mine.read_text().replace("teßt", "text").replace("te\\u00dft", "text"))
    with pytest.raises(HarkError, match=r"not the same manifests, codec.; choose another --out"):
        sharded("tar", [mine], tmp_path / "out", Settings(codec="wav"))
    with pytest.raises(HarkError, match="not the same layout"):
        sharded("shar", [mine], tmp_path / "out", Settings())
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "summary.json").write_text("{}")
    with pytest.raises(HarkError, match="holds another corpus; choose another --out"):
        sharded("tar", [mine], tmp_path / "corpus", Settings())


def test_a_full_disk_is_one_line_and_nothing_is_half_done(corpus, tmp_path):
    path, _ = corpus
    settings = Settings(shards=3, seed=-1)

    def on_full_disk(pipe):
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            sharded("tar", [path], tmp_path / "out", settings)
        except HarkError as error:
            pipe.send(str(error))

    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=on_full_disk, args=(theirs,))
    process.start()
    process.join()
    assert ours.poll()
    assert "File too large; the same command goes on from here" in ours.recv()
    wanted = sums(sharded("tar", [path], tmp_path / "calm", settings))
    there = sums(tmp_path / "out")
    assert "audio_0.tar" in there
    assert "audio_2.tar" not in there
    assert there.items() <= wanted.items()
    assert sums(sharded("tar", [path], tmp_path / "out", settings)) == wanted


def test_what_reads_back_differently_is_no_shard(corpus, tmp_path, monkeypatch):
    path, _ = corpus
    real = codec.encode
    monkeypatch.setattr(codec, "encode", lambda x, rate, name: real(np.roll(x, 1, 0), rate, name))
    with pytest.raises(HarkError, match=r"shard 0 reads back as other samples of .* is the disk sound"):
        sharded("tar", [path], tmp_path, Settings())
    monkeypatch.setattr(codec, "encode", lambda x, rate, name: real(x[1:], rate, name))
    with pytest.raises(HarkError, match=r"shard 0 reads back as \d+ samples of .* instead of"):
        sharded("shar", [path], tmp_path / "shar", Settings())
    assert not list(tmp_path.glob("audio_*.tar"))
    assert not (tmp_path / "summary.json").exists()
