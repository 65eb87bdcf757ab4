"""`hark extract`: the right frames of the right utterance, the same bits each time, and nothing lost."""

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
from safetensors.torch import load_file

from research.config import Data
from research.contracts import Batch, Seq
from research.data import audio, features
from research.data.loader import Loader
from research.data.manifest import load
from research.data.plan import Item
from research.errors import HarkError
from research.evaluation import extract as extraction
from research.evaluation import extract_encode
from research.evaluation.extract_encode import encode, still
from research.interop.load import load as open_checkpoint
from tests.stores import clips, extract, facts_of, lines_of, tiny_run

NEMO = Path(__file__).parent / "fixtures" / "nemo" / "large_style" / "model.nemo"


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny_run(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def source(corpus, tmp_path_factory):
    return clips(corpus, tmp_path_factory.mktemp("clips") / "clips.jsonl")


@pytest.fixture(scope="module")
def whole(run, source, tmp_path_factory):
    """All layers of all clips."""
    return extract(run, source, tmp_path_factory.mktemp("store") / "all")


def tensors(out):
    found = {}
    for path in sorted((out / "shards").iterdir()):
        found |= load_file(path)
    return found


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(value, two[key]) for key, value in one.items())


def alone(run, line, layers):
    """What the model makes of an utterance by itself: (L, T, D)."""
    upstream, _ = open_checkpoint(run)
    clip = audio.read(line["audio_filepath"], line.get("offset", 0.0), line["duration"], 16_000)
    wave = torch.from_numpy(clip.samples)[None]
    batch = Batch.clean(Seq(wave, torch.tensor([wave.size(1)])))
    with still(upstream):
        (found,) = encode(upstream, batch, layers)
    return found


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


def test_values_beyond_float16_are_refused(run, source, tmp_path, monkeypatch):
    upstream, report = open_checkpoint(run)
    upstream.encoder.layers[1].norm.weight.data *= 1e6
    monkeypatch.setattr("research.evaluation.extract_job.load", lambda _: (upstream, report))
    with pytest.raises(
        HarkError, match=r"clips.jsonl:\d+: its features are not finite in float16; try --dtype"
    ):
        extract(run, source, tmp_path / "out", "--dtype", "float16")


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
    """However many utterances there are, those of one shard are held, and no others."""
    made, left, finished, save = [], [], extract_encode.finished, extraction.save

    def making(*facts):
        found = finished(*facts)
        made.append(weakref.ref(found))
        return found

    def saving(path, shard):
        left.append(sum(ref() is not None for ref in made) - len(shard.tensors))
        save(path, shard)

    monkeypatch.setattr(extract_encode, "finished", making)
    monkeypatch.setattr(extraction, "save", saving)
    extract(run, source, tmp_path / "out", "--shard-mb", "0.01")
    assert len(made) == len(lines_of(source))
    assert left == [0] * len(left)
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
