"""`hark extract` at work: stopped and resumed, shared among ranks, and what it says of wrong input."""

import json
import os
import shutil
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from research.config import Data
from research.data.loader import Loader
from research.data.manifest import load
from research.errors import HarkError
from research.evaluation import extract as extraction
from research.evaluation import extract_encode
from tests.stores import extract, facts_of, lines_of, same, tensors

NEMO = Path(__file__).parents[1] / "fixtures" / "nemo" / "large_style" / "model.nemo"


# --- interruptions, ranks, memory


def test_an_extraction_that_was_stopped_goes_on(run, source, whole, tmp_path, monkeypatch):
    out, save, written = tmp_path / "out", extraction.save, []

    def stop(path, shard):
        if len(written) == 2:
            path.with_name(path.name + ".part").write_bytes(b"half of it")
            raise KeyboardInterrupt
        save(path, shard)
        written.append((path, path.stat().st_mtime_ns))

    monkeypatch.setattr(extraction, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        extract(run, source, out)
    assert not (out / "features.jsonl").exists()
    monkeypatch.setattr(extraction, "save", save)
    (damaged, _), (kept, when) = written
    damaged.write_bytes(damaged.read_bytes()[:-10])
    extract(run, source, out)
    assert kept.stat().st_mtime_ns == when
    assert (out / "features.jsonl").read_text() == (whole / "features.jsonl").read_text()
    assert same(tensors(out), tensors(whole))
    assert not list(out.rglob("*.part"))


def test_a_folder_keeps_one_extraction(run, source, whole):
    with pytest.raises(
        HarkError, match=r"holds features with layers \[0, 1, 2\], not \[2\]; name another --out"
    ):
        extract(run, source, whole, "--layers", "last")


def test_ranks_share_the_work_and_change_no_bit(run, source, whole, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc_per_node=2")
    command = [
        sys.executable,
        *launcher,
        "-m",
        "research.cli",
        "extract",
        run,
        source,
        "--out",
        tmp_path / "two",
    ]
    options = ["--batch-seconds", "15", "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "audio-s/s" in done.stdout
    assert same(tensors(tmp_path / "two"), tensors(whole))
    assert lines_of(tmp_path / "two" / "features.jsonl") == lines_of(whole / "features.jsonl")


def test_features_do_not_pile_up_in_memory(run, source, tmp_path, monkeypatch):
    """However many utterances there are, those of two shards are held: of one that is written, and of the next."""
    made, left, sizes, finished, save = [], [], [], extract_encode.finished, extraction.save

    def making(*facts):
        found = finished(*facts)
        made.append(weakref.ref(found))
        return found

    def saving(path, shard):
        sizes.append(len(shard.tensors))
        left.append(sum(ref() is not None for ref in made) - len(shard.tensors))
        save(path, shard)

    monkeypatch.setattr(extract_encode, "finished", making)
    monkeypatch.setattr(extraction, "save", saving)
    extract(run, source, tmp_path / "out", "--shard-mb", "0.01")
    assert len(made) == len(lines_of(source))
    assert all(more <= size for more, size in zip(left, [*sizes[1:], 0], strict=True))
    assert len(left) > 3


def test_batches_are_of_like_length_and_longest_first(run, source, tmp_path, monkeypatch):
    seen = []
    forward = Loader.load
    monkeypatch.setattr(Loader, "load", lambda self, item: seen.append(item.rows) or forward(self, item))
    extract(run, source, tmp_path / "out")
    durations = load([source], Data()).durations
    order = durations[np.concatenate(seen)]
    assert (np.diff(order) <= 0).all()
    assert all(len(rows) == 1 or len(rows) * durations[rows].max() <= 15 for rows in seen)
    assert max(map(len, seen)) > 1


# --- what is wrong is said


def test_what_cannot_be_decoded_is_listed_one_by_one(run, source, tmp_path, caplog):
    lines = lines_of(source)
    shutil.copy(lines[0]["audio_filepath"], tmp_path / "cut.flac")
    data = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) // 2])
    lines[0]["audio_filepath"] = str(tmp_path / "cut.flac")
    lines[2] |= {"duration": 0.05, "id": "tiny"}
    lines[5]["_skipme"] = True
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = extract(run, path, tmp_path / "out", "--layers", "last")
    assert len(lines_of(out / "features.jsonl")) == len(lines) - 3
    facts = facts_of(out)
    assert list(facts["left_out"]) == [f"{path}:1", f"{path}:3"]
    assert "cut.flac" in facts["left_out"][f"{path}:1"]
    assert facts["left_out"][f"{path}:3"] == "under 0.1 s"
    assert facts["skipped"] == {"_skipme": 1}
    assert "cut.flac" in caplog.text
    again = extract(run, path, tmp_path / "out", "--layers", "last")
    assert facts_of(again) == facts


def test_too_many_that_cannot_be_decoded_stop_it(run, tmp_path):
    soundfile.write(tmp_path / "good.wav", np.zeros(3_200), 16_000)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    lines = [{"audio_filepath": "good.wav", "duration": 0.2, "id": i} for i in range(96)]
    lines += [{"audio_filepath": "bad.wav", "duration": 0.2, "id": f"bad {i}"} for i in range(4)]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(HarkError, match="4 of 100 utterances could not be read"):
        extract(run, path, tmp_path / "out", "--layers", "last")
    out = extract(run, path, tmp_path / "out", "--layers", "last", "--max-bad", "0.05")
    assert len(facts_of(out)["left_out"]) == 4


def test_an_id_that_comes_twice_is_refused(run, source, tmp_path):
    line = source.read_text().splitlines()[0]
    (tmp_path / "m.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(HarkError, match=r"m.jsonl:2: id '.*' is taken by .*m.jsonl:1"):
        extract(run, tmp_path / "m.jsonl", tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        (["--layers", "3"], "--layers 3: '3' is no layer; there are 0 to 2, or type all, last, none"),
        (["--layers", "0,-1"], "'-1' is no layer; there are 0 to 2"),
        (["--layers", "1,2,1"], "1 is there twice"),
        (["--layers", "none"], "--layers none: stores no ids by itself; add --kmeans K"),
        (["--layers", "none", "--kmeans", "3"], "say with --kmeans-layer L which layer is clustered"),
        (["--kmeans-layer", "1"], "add --kmeans K or --kmeans-from FILE"),
        (["--kmeans", "3", "--kmeans-layer", "9"], "--kmeans-layer 9: is no layer; there are 0 to 2"),
        (["--kmeans", "100000"], "there are only .* frames to learn from; ask for fewer"),
        (["--kmeans", "1"], "--kmeans 1: must be above 1"),
        (["--kmeans-from", "none.safetensors"], "none.safetensors: is no codebook"),
        (["--batch-seconds", "0"], "--batch-seconds 0: must be above 0"),
    ],
)
def test_wrong_options_are_one_line(run, source, tmp_path, words, wrong):
    with pytest.raises(HarkError, match=wrong) as error:
        extract(run, source, tmp_path / "out", *words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["gone.json", "gone.jsonl", "gone.wav", "gone"])
def test_an_input_that_is_missing_is_one_line(run, tmp_path, name):
    with pytest.raises(HarkError, match=f"{name}: nothing is here; name a manifest"):
        extract(run, tmp_path / name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_inputs_of_no_use_are_one_line(run, whole, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(HarkError, match=r"empty: no audio is below it \(it is empty\)"):
        extract(run, tmp_path / "empty", tmp_path / "out")
    (tmp_path / "empty" / "notes.txt").write_text("hello")
    with pytest.raises(HarkError, match=r"no audio is below it \(there are: .txt 1\)"):
        extract(run, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(HarkError, match=r"notes.txt: cannot be decoded .*; nothing that can be read is in"):
        extract(run, tmp_path / "empty" / "notes.txt", tmp_path / "out")
    (tmp_path / "array.json").write_text("[1, 2]")
    with pytest.raises(HarkError, match=r"array.json:1: is not a JSON object"):
        extract(run, tmp_path / "array.json", tmp_path / "out")
    with pytest.raises(HarkError, match="its lines name features already"):
        extract(run, whole / "features.jsonl", tmp_path / "out")
    with pytest.raises(HarkError, match="gone: nothing is here"):
        extract(tmp_path / "gone", whole / "features.jsonl", tmp_path / "out")
