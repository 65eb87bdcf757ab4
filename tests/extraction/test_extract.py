"""`hark extract`: the right frames of the right utterance, the same bits each time, and nothing lost."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from research.config import Data
from research.data import features
from research.data.loader import Loader
from research.data.manifest import load
from research.data.plan import Item
from research.errors import HarkError
from research.evaluation.extract_encode import encode, still
from research.interop.load import load as open_checkpoint
from tests.stores import alone, extract, facts_of, lines_of, same, tensors, tiny_run

NEMO = Path(__file__).parents[1] / "fixtures" / "nemo" / "large_style" / "model.nemo"


# --- the model holds still


def test_two_passes_are_bit_equal(run, source, whole, tmp_path):
    """A model left in training mode would draw dropout and dither, and normalise by the batch."""
    assert same(tensors(whole), tensors(extract(run, source, tmp_path / "again")))


def test_extraction_is_in_eval_mode_and_moves_no_state(run, source):
    """Batch norm's statistics and every module's mode are afterwards what they were."""
    upstream, _ = open_checkpoint(run)
    upstream.train()
    state = {name: value.clone() for name, value in upstream.state_dict().items()}
    pools = [module.pool.clone() for module in upstream.modules() if hasattr(module, "pool")]
    manifest = load([source], Data(min_seconds=0.0))
    batch = Loader(manifest, None, Data(), seed=0).load(Item(0, np.arange(4))).batch
    torch.manual_seed(1)
    drawn = torch.get_rng_state()
    with still(upstream):
        one, two = (list(encode(upstream, batch, [0, 2])) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(one, two, strict=True))
    assert not any(x.requires_grad for x in one)
    assert upstream.training
    assert all(torch.equal(value, state[name]) for name, value in upstream.state_dict().items())
    assert pools
    after = [module.pool for module in upstream.modules() if hasattr(module, "pool")]
    assert all(torch.equal(x, y) for x, y in zip(pools, after, strict=True))
    assert torch.equal(torch.get_rng_state(), drawn)


def test_features_are_those_of_the_utterance_alone(run, source, whole):
    for line in lines_of(whole / "features.jsonl"):
        stored = features.read(line, whole)
        torch.testing.assert_close(stored, alone(run, line, range(3)), rtol=1e-4, atol=1e-4)


# --- every utterance, each its own


def test_segments_of_one_file_keep_their_own_features(run, source, whole):
    lines = lines_of(whole / "features.jsonl")[1:4]
    assert len({line["audio_filepath"] for line in lines}) == 1
    assert [line["offset"] for line in lines] == [0.0, 0.5, 1.1]
    found = [features.read(line, whole) for line in lines]
    assert [x.size(1) for x in found] == [9, 9, 9]  # 0.7 s each, not the file
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(found[1], found[2])


def test_the_manifest_keeps_order_and_every_key(source, whole):
    before, after = lines_of(source), lines_of(whole / "features.jsonl")
    assert [{k: v for k, v in line.items() if not k.startswith("feature_")} for line in after] == before
    assert len({(line["feature_path"], line["feature_key"]) for line in after}) == len(before)
    assert all((whole / line["feature_path"]).is_file() for line in after)


def test_relative_paths_still_name_the_audio(run, tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", np.zeros(16_000), 16_000)
    (tmp_path / "in" / "m.json").write_text('{"audio_filename": "a.wav", "duration": 1.0}\n')
    out = extract(run, tmp_path / "in" / "m.json", tmp_path / "out", "--layers", "last")
    manifest = load([out / "features.jsonl"], Data())
    assert Path(manifest.utterance(0).path).samefile(tmp_path / "in" / "a.wav")
    assert manifest.utterance(0).id == load([tmp_path / "in" / "m.json"], Data()).utterance(0).id


def test_a_single_file_is_an_input(run, source, whole, tmp_path):
    line = lines_of(source)[0]
    out = extract(run, line["audio_filepath"], tmp_path / "one")
    (only,) = lines_of(out / "features.jsonl")
    assert only["id"] == Path(line["audio_filepath"]).name
    stored = features.read(lines_of(whole / "features.jsonl")[0], whole)
    torch.testing.assert_close(features.read(only, out), stored, rtol=1e-4, atol=1e-4)


def test_a_folder_is_searched_for_every_kind_of_audio(run, tmp_path, caplog):
    for name in ("b.wav", "deep/er/a.flac", "deep/c.OGG"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "in" / name, np.zeros(8_000), 16_000)
    (tmp_path / "in" / "notes.txt").write_text("no audio")
    (tmp_path / "in" / "d.m4a").write_bytes(b"nothing decodes this")
    out = extract(run, tmp_path / "in", tmp_path / "out", "--layers", "last")
    assert [line["id"] for line in lines_of(out / "features.jsonl")] == [
        "b.wav",
        "deep/c.OGG",
        "deep/er/a.flac",
    ]
    ((path, reason),) = facts_of(out)["left_out"].items()
    assert path.endswith("d.m4a")
    assert "cannot be decoded" in reason


def test_names_are_short_whatever_the_path(run, tmp_path):
    folder = tmp_path.joinpath(*["x" * 200] * 3)
    folder.mkdir(parents=True)
    soundfile.write(folder / f"{'y' * 200}.wav", np.zeros(8_000), 16_000)
    out = extract(run, tmp_path, tmp_path / "out", "--layers", "last")
    (line,) = lines_of(out / "features.jsonl")
    assert len(line["feature_path"]) + len(line["feature_key"]) < 40


# --- layers


def test_all_gives_every_layer_once(whole):
    assert facts_of(whole)["layers"] == [0, 1, 2]  # of two blocks
    for line in lines_of(whole / "features.jsonl"):
        x = features.read(line, whole)
        assert x.shape[0] == 3
        assert x.shape[2] == 64
        assert not any(torch.equal(x[i], x[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_layers_come_in_the_order_that_is_asked_for(run, source, whole, tmp_path):
    out = extract(run, source, tmp_path / "some", "--layers", "2,0")
    last = extract(run, source, tmp_path / "last", "--layers", "last")
    for line, one, two in zip(*(lines_of(o / "features.jsonl") for o in (whole, out, last)), strict=True):
        x = features.read(line, whole)
        assert torch.equal(features.read(one, out), x[[2, 0]])
        assert torch.equal(features.read(two, last), x[[2]])


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_features_are_rounded_once(run, source, whole, tmp_path, name):
    out = extract(run, source, tmp_path / name, "--dtype", name)
    for key, value in tensors(out).items():
        assert value.element_size() == 2
        assert torch.equal(value, tensors(whole)[key].to(getattr(torch, name)))


def test_bf16_is_computed_by_choice_and_said(run, source, whole, tmp_path):
    out = extract(run, source, tmp_path / "out", "--precision", "bf16")
    assert facts_of(out)["precision"] == "bf16"
    assert facts_of(whole)["precision"] is None
    for key, value in tensors(out).items():
        assert value.dtype == torch.float32
        assert not torch.equal(value, tensors(whole)[key])
        torch.testing.assert_close(value, tensors(whole)[key], rtol=0.05, atol=0.1)


def test_values_beyond_float16_are_refused(run, source, tmp_path, monkeypatch):
    upstream, report = open_checkpoint(run)
    upstream.encoder.layers[1].norm.weight.data *= 1e6
    monkeypatch.setattr("research.evaluation.extract_job.load", lambda _: (upstream, report))
    with pytest.raises(
        HarkError, match=r"clips.jsonl:\d+: its features are not finite in float16; try --dtype"
    ):
        extract(run, source, tmp_path / "out", "--dtype", "float16")
    assert not list((tmp_path / "out" / "shards").iterdir())


def test_pooling_is_the_mean_over_real_frames(run, source, whole, tmp_path):
    out = extract(run, source, tmp_path / "mean", "--pool", "mean")
    for key, value in tensors(whole).items():
        torch.testing.assert_close(tensors(out)[key], value.mean(1))
    assert features.read(lines_of(out / "features.jsonl")[0], out).shape == (3, 1, 64)


def test_any_checkpoint_will_do(source, tmp_path):
    out = extract(NEMO, source, tmp_path / "out", "--layers", "last")
    assert facts_of(out)["encoder"] == "FastConformer"
    assert len(lines_of(out / "features.jsonl")) == len(lines_of(source))


# --- clusters


def test_clusters_are_learnt_saved_and_used_again(run, source, whole, tmp_path):
    out = extract(run, source, tmp_path / "k", "--layers", "none", "--kmeans", "7", "--kmeans-layer", "1")
    assert not (out / "features.jsonl").exists()
    lines = lines_of(out / "labels.jsonl")
    centroids = load_file(out / "kmeans.safetensors")["centroids"]
    ids = [features.read_labels(line, out) for line in lines]
    assert len(torch.cat(ids).unique()) == 7
    assert all(value.dtype == torch.int16 for value in tensors(out).values())
    for x, line in zip(ids, lines_of(whole / "features.jsonl"), strict=True):
        nearest = torch.cdist(features.read(line, whole)[1], centroids).argmin(1)
        assert (x[:, 0] == nearest).float().mean() > 0.99
    codebook = ("--kmeans-from", out / "kmeans.safetensors")
    both = extract(run, source, tmp_path / "both", "--layers", "2", *codebook)
    for line, x in zip(lines_of(both / "features.jsonl"), ids, strict=True):
        assert torch.equal(features.read_labels(line, both), x)
        assert len(x) == features.read(line, both).size(1)
    assert not load(
        [both / "labels.jsonl"], Data()
    ).stored  # audio with ids: what a student of clusters reads


def test_the_same_seed_gives_the_same_clusters(run, source, tmp_path):
    outs = [extract(run, source, tmp_path / name, "--kmeans", "5") for name in "ab"]
    one, two = (load_file(out / "kmeans.safetensors") for out in outs)
    assert same(one, two)
    assert same(*map(tensors, outs))


def test_clusters_of_another_model_are_refused(run, source, tmp_path):
    out = extract(run, source, tmp_path / "k", "--layers", "none", "--kmeans", "3", "--kmeans-layer", "1")
    other = tiny_run(tmp_path / "runs", "run.seed=1")
    with pytest.raises(HarkError, match="holds clusters of another model's frames"):
        extract(other, source, tmp_path / "o", "--kmeans-from", out / "kmeans.safetensors")
