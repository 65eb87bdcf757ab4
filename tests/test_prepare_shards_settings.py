"""Sharded sets: in which order and sizes, what is left out, and what cannot be."""

import json

import numpy as np
import pytest
import soundfile

from research.data.corpora import command
from research.data.corpora.shards import Settings
from research.errors import HarkError
from tests.corpora import LAYOUTS, ODD_IDS, odd_corpus, sharded, summary_of
from tests.sounds import RATE
from tests.test_prepare_local import run

pytestmark = pytest.mark.usefixtures("module_cache")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return odd_corpus(tmp_path_factory.mktemp("corpus"))


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
