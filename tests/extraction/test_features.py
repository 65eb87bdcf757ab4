"""Stored features, read back: through the loader, as an upstream, as labels."""

import argparse
import json

import numpy as np
import pytest
import torch

from research.classification.representations import from_store
from research.config import Config, Data
from research.contracts import Seq
from research.data import features
from research.data.loader import Loader
from research.data.manifest import load
from research.data.plan import Item
from research.engine.gangs import start
from research.errors import HarkError
from research.evaluation import command
from research.interop.load import load as open_checkpoint
from research.training.data import Planned, blank
from tests.stores import extract, lines_of, tiny_run


@pytest.fixture(scope="module")
def store(run, source, tmp_path_factory):
    return extract(run, source, tmp_path_factory.mktemp("store") / "s", "--layers", "2,0", "--kmeans", "4")


def test_a_store_stands_in_for_the_encoder(run, source, store):
    """Loader, plan and upstream give what the encoder gives on the audio."""
    upstream, _ = open_checkpoint(run)
    manifest, audio = load([store / "features.jsonl"], Data()), load([source], Data())
    assert manifest.stored
    assert not audio.stored
    assert manifest.durations.tolist() == audio.durations.tolist()
    rows = Item(0, np.arange(len(manifest)))
    kept, heard = (Loader(m, None, Data(), seed=0).load(rows) for m in (manifest, audio))
    assert kept.batch.ids == heard.batch.ids
    assert kept.seconds == pytest.approx(heard.seconds, rel=0.05)
    assert kept.batch.audio.x.shape[2] == 128
    assert kept.batch.audio.x.dtype == torch.float32
    instead = from_store(manifest)
    assert (instead.dim, instead.depth, instead.period) == (upstream.dim, upstream.depth, upstream.period)
    assert (list(instead.layers), instead.sample_rate) == ([2, 0], upstream.sample_rate)
    with torch.no_grad():
        wanted, found = upstream(heard.batch.audio, [0, 2]), instead(kept.batch.audio, [0, 2])
    assert torch.equal(found.last.lengths, wanted.last.lengths)
    valid = wanted.last.valid
    for x, y in zip([*found.layers, found.last.x], [*wanted.layers, wanted.last.x], strict=True):
        torch.testing.assert_close(x[valid], y[valid], rtol=1e-4, atol=1e-4)


def test_a_layer_that_is_not_stored_is_one_line(store):
    upstream = from_store(load([store / "features.jsonl"], Data()))
    with pytest.raises(HarkError, match="layer 1: is not stored; stored are 2, 0"):
        upstream(Seq(torch.zeros(1, 3, 128), torch.tensor([3])), [1])


def test_reading_copies_nothing(store):
    line = lines_of(store / "features.jsonl")[0]
    one, two = features.read(line, store), features.read(line, store)
    assert one.data_ptr() == two.data_ptr()


def test_labels_are_read_beside_audio(store):
    manifest = load([store / "labels.jsonl"], Data())
    assert not manifest.stored
    for i in range(len(manifest)):
        ids = features.read_labels(manifest.extra(i), manifest.folder(i))
        x = features.read(lines_of(store / "features.jsonl")[i], store)
        assert ids.shape == (x.size(1), 1)
        assert ids.dtype == torch.int64
        assert ids.min() >= 0
        assert ids.max() < 4


def test_features_need_no_audio(store, tmp_path):
    lines = lines_of(store / "features.jsonl")
    for i, line in enumerate(lines):
        line |= {"audio_filepath": f"/gone/{i}.wav", "feature_path": str(store / line["feature_path"])}
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "features.json").write_text((store / "features.json").read_text())
    loaded = Loader(load([tmp_path / "m.jsonl"], Data()), None, Data(), seed=0).load(Item(0, np.arange(3)))
    assert loaded.bad == []
    assert loaded.batch.audio.x.size(0) == 3


def test_training_reads_features(store):
    cfg = Config()
    cfg.data = Data(train=[str(store / "features.jsonl")], batch_seconds=8.0, buckets=3, workers=0)
    source = Planned(cfg, start("cpu"))
    fed = next(source.train(0, []))
    assert fed.batch.audio.x.ndim == 3
    assert fed.seconds > 0
    nothing = blank(source.speech)
    assert nothing.audio.x.shape == (1, 1, 128)
    assert nothing.labels.lengths.tolist() == [0]


def test_shards_that_are_gone_are_told_like_broken_audio(store, tmp_path):
    line = lines_of(store / "features.jsonl")[0]
    gone = line | {"feature_path": "gone.safetensors"}
    other = line | {"feature_path": str(store / line["feature_path"]), "feature_key": "nobody", "id": "b"}
    (tmp_path / "m.jsonl").write_text(f"{json.dumps(gone)}\n{json.dumps(other)}\n")
    (tmp_path / "features.json").write_text((store / "features.json").read_text())
    loader = Loader(load([tmp_path / "m.jsonl"], Data()), None, Data(), seed=0)
    loaded = loader.load(Item(0, np.arange(2)))
    assert "gone.safetensors: features '0' cannot be read" in loaded.bad[0]
    assert "features 'nobody' cannot be read" in loaded.bad[1]
    assert loaded.batch is None


def test_stores_that_differ_are_not_mixed(run, source, store, tmp_path):
    other = extract(run, source, tmp_path / "other", "--layers", "2")
    lines = [line | {"id": f"other {i}"} for i, line in enumerate(lines_of(other / "features.jsonl"))]
    (other / "features.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    manifest = load([store / "features.jsonl", other / "features.jsonl"], Data())
    with pytest.raises(HarkError, match="describes other features than"):
        features.layout(manifest)


def test_features_and_audio_are_not_mixed(source, store, tmp_path):
    lines = lines_of(source)
    for i, line in enumerate(lines):
        line["id"] = f"audio {i}"
    (tmp_path / "audio.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(
        HarkError, match=r"audio.jsonl:1: is not of the kind of .*features.jsonl:1, which is features"
    ):
        load([store / "features.jsonl", tmp_path / "audio.jsonl"], Data())
    with pytest.raises(HarkError, match="its lines name no features; see `hark extract`"):
        features.layout(load([source], Data()))


def test_features_take_no_noise(source, store):
    with pytest.raises(HarkError, match="no noise can be added to stored features"):
        Loader(load([store / "features.jsonl"], Data()), load([source], Data()), Data(), seed=0)


def test_a_feature_path_without_a_key_is_one_line(store, tmp_path):
    line = lines_of(store / "features.jsonl")[0]
    del line["feature_key"]
    (tmp_path / "m.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(HarkError, match=r"m.jsonl:1: has a feature_path and no feature_key"):
        load([tmp_path / "m.jsonl"], Data())


def test_probes_take_features(run, corpus, tmp_path, capsys):
    """What is stored of a checkpoint answers as what it makes of the audio."""
    made = {}
    for split, count in (("train", 10), ("test", 4)):
        lines = sorted(lines_of(corpus / f"phones_{split}.jsonl"), key=lambda line: line["duration"])[:count]
        for line in lines:
            line["audio_filepath"] = str(corpus / line["audio_filepath"])
        path = tmp_path / f"{split}.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        made[split] = (
            path,
            extract(run, path, tmp_path / f"store_{split}", "--layers", "1,2") / "features.jsonl",
        )
    scores = []
    for place in (0, 1):
        words = [
            "--seeds",
            "2",
            "--dev",
            "2",
            "--probe",
            "phone_frames",
            "--out",
            tmp_path / f"{place}.jsonl",
        ]
        probe(run, "--train", made["train"][place], "--test", made["test"][place], *words)
        scores.append(headlines(tmp_path / f"{place}.jsonl"))
    heard, kept = scores
    assert {layer for _, layer in kept} == {None, 1, 2}
    for key, mean in kept.items():
        assert mean == pytest.approx(heard[key], abs=0.02)
    other = tiny_run(tmp_path / "runs", "run.seed=1")
    with pytest.raises(HarkError, match="holds features of another model"):
        probe(other, "--train", made["train"][1], "--test", made["test"][1], *words)


def headlines(path):
    found = [line for line in lines_of(path) if line["kind"] == "score" and line["headline"]]
    return {(line["representation"], line["layer"]): line["mean"] for line in found if line["period"] > 0.05}


def probe(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(word) for word in words]))
