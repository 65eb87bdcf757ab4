"""Everything that can be wrong with speech: each has one outcome, and the run's data.json counts it."""

import json

import numpy as np
import pytest
import soundfile

from research.config import Data
from research.data.loader import Loader
from research.data.manifest import load
from research.data.plan import Item
from research.errors import HarkError
from tests import runs
from tests.sounds import RATE, signal_of, write

HOURS = 3


def sound(path, x, rate=RATE, **how):
    soundfile.write(path, x, rate, **how)
    return path


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory):
    """A manifest with every fault that does not stop a run, and 12 good utterances."""
    folder = tmp_path_factory.mktemp("spoilt")
    lines = []

    def line(name, duration, **more):
        lines.append(
            {"id": f"{name}{more.get('offset', '')}", "audio_filepath": name, "duration": duration, **more}
        )

    for i in range(12):
        sound(folder / f"good{i}.wav", signal_of(0.5 + 0.1 * i, RATE, seed=i))
        line(f"good{i}.wav", round(0.5 + 0.1 * i, 1))
    nan = signal_of(0.8, RATE)
    nan[100] = np.nan
    sound(folder / "nan.wav", nan, subtype="FLOAT")
    line("nan.wav", 0.8)
    sound(folder / "silence.wav", np.zeros(RATE))
    line("silence.wav", 1.0)
    sound(folder / "array.wav", signal_of(1.1, 96_000, channels=6), 96_000)
    line("array.wav", 1.1)
    sound(folder / "blip.wav", signal_of(0.05, RATE))
    line("blip.wav", 0.05)
    (folder / "noise.flac").write_bytes(b"fLaC" + bytes(range(256)) * 8)
    line("noise.flac", 1.0)
    sound(folder / "cut.flac", np.random.default_rng(0).uniform(-0.5, 0.5, RATE))
    (folder / "cut.flac").write_bytes((folder / "cut.flac").read_bytes()[:9000])  # its header promises 1 s
    line("cut.flac", 1.0)
    with soundfile.SoundFile(folder / "long.flac", "w", 8_000, 1) as file:
        for _ in range(HOURS * 60):
            file.write(np.full(8_000 * 60, 0.25))
    line("long.flac", HOURS * 3600.0)
    line("long.flac", 1.0, offset=HOURS * 3600.0 - 1.0)
    sound(folder / "longer.wav", signal_of(2.0, RATE))
    line("longer.wav", 0.7)  # less than there is: a segment
    return write(folder / "train.jsonl", *lines)


def test_a_run_counts_what_it_could_not_hear(spoilt, speech, tmp_path):
    """Each step of this run is one epoch, and validation counts nothing."""
    data = (
        "data.batch_seconds=10000",
        "data.buckets=1",
        "data.max_bad=0.5",
        "train.steps=3",
        "encoder.conv_norm=layer",
    )
    run = runs.train({**speech, "train": spoilt}, tmp_path, *data)
    told = json.loads((run / "data.json").read_text())
    assert told["left_out"] == {"under 0.1 s": 1, "over 60 s": 1}
    assert told["utterances"] == 19
    heard = {name: count / 3 for name, count in told["heard"].items()}
    assert heard == {
        "utterances": 16, "silent": 1, "converted": 2, "missing": 0, "broken": 2, "too_short": 0, "not_finite": 1,
    }  # fmt: skip
    assert runs.metrics(run)[-1]["bad_utterances"] == 9
    assert runs.metrics(run)[-1]["silent_utterances"] == 3


def test_what_is_heard_of_odd_files(spoilt):
    cfg = Data()
    speech = load([spoilt], cfg)
    loaded = Loader(speech, None, cfg, seed=0).load(Item(0, np.arange(len(speech))))
    row = {name: i for i, name in enumerate(loaded.batch.ids)}
    lengths = loaded.batch.audio.lengths.tolist()
    assert lengths[row["array.wav"]] == round(1.1 * RATE)
    assert lengths[row["longer.wav"]] == round(0.7 * RATE)
    end = loaded.batch.audio.x[row[f"long.flac{HOURS * 3600.0 - 1.0}"]][:RATE]
    assert end[1000:-1000].mean() == pytest.approx(0.25, abs=1e-3)
    assert sum("NaN" in reason for reason in loaded.bad) == 1
    assert sum("noise.flac" in reason or "cut.flac" in reason for reason in loaded.bad) == 2


def test_a_line_that_promises_too_much_is_refused_by_the_header_or_counted(tmp_path):
    sound(tmp_path / "a.wav", signal_of(1.0, RATE))
    manifest = write(tmp_path / "m.jsonl", {"audio_filepath": "a.wav", "duration": 1.5})
    with pytest.raises(HarkError, match=r"m\.jsonl:1: the segment ends at 1\.50 s, .*a\.wav at 1\.00 s"):
        load([manifest], Data())
    unchecked = load([manifest], Data(), headers=False)
    loaded = Loader(unchecked, None, Data(), seed=0).load(Item(0, np.arange(1)))
    assert loaded.counts == {"too_short": 1}
    assert "gives 1.00 s instead of 1.50 s" in loaded.bad[0]


def test_a_file_that_vanishes_is_missing(tmp_path):
    path = sound(tmp_path / "a.wav", signal_of(1.0, RATE))
    speech = load([write(tmp_path / "m.jsonl", {"audio_filepath": "a.wav", "duration": 1.0})], Data())
    path.unlink()
    loaded = Loader(speech, None, Data(), seed=0).load(Item(0, np.arange(1)))
    assert loaded.counts == {"missing": 1}
    assert loaded.batch is None


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "this manifest is empty"),
        ("{}\n", r"m\.jsonl:1: has no audio_filepath"),
        ('{"audio_filepath": "gone.wav", "duration": 1}\n', r"m\.jsonl:1: .*gone\.wav: is missing"),
        ('{"audio_filepath": "a.wav", "duration": 1, "id": "x"}\n' * 2, r"m\.jsonl:2: id 'x' is taken by .*m\.jsonl:1"),
        ('{"audio_filepath": "a.wav", "duration": 0.01}\n', r"every utterance is left out \(1 under 0\.1 s\)"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_at_all_is_one_line(tmp_path, content, told):
    sound(tmp_path / "a.wav", signal_of(1.0, RATE))
    (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(HarkError, match=told):
        load([tmp_path / "m.jsonl"], Data())


def test_a_folder_that_is_no_manifest(tmp_path):
    with pytest.raises(HarkError, match="this manifest cannot be read"):
        load([tmp_path], Data())
    with pytest.raises(HarkError, match=r"gone/m\.jsonl: this manifest cannot be read \(No such file"):
        load([tmp_path / "gone" / "m.jsonl"], Data())
