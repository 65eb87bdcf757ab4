"""`hark classify` on real speech: trained, chosen on valid, tested once."""

import json

import pytest
import torch

from research.classification import command
from research.classification.data import open_corpus
from research.classification.representations import Origins, stored
from research.classification.task import classifier
from research.engine.gangs import start
from research.errors import HarkError
from research.interop.load import read
from tests.classifying import QUICK, classify, make_task, records, typed
from tests.sentences import write_manifest
from tests.sounds import mixed_noise
from tests.stores import extract


@pytest.fixture(scope="module")
def task(corpus, tmp_path_factory):
    return make_task(corpus, tmp_path_factory.mktemp("task"))


@pytest.fixture(scope="module")
def done(task, tmp_path_factory):
    """A finished frozen experiment, with trials."""
    return classify(task, tmp_path_factory.mktemp("done"), f"data.trials=[{task[0] / 'trials.txt'}]")


# --- the whole command


def test_everything_that_was_found_is_written(done):
    found = json.loads((done / "classify.json").read_text())
    assert [score["representation"] for score in found["scores"]] == [
        "pretrained", "random_init", "log_mel", "log_mel_raw",
    ]  # fmt: skip
    assert found["upstream"]["step"] == 1
    assert found["majority"] == pytest.approx(1 / 3)
    for score in found["scores"]:
        assert {"acc", "macro_acc"} == score["metrics"].keys()
        assert score["metrics"]["acc"]["low"] <= score["metrics"]["acc"]["mean"]
        for run in score["runs"]:
            (trials,) = run["trials"].values()
            assert trials["trials"] == 66
            assert 0 <= trials["eer"] <= 1
    assert any("voice/source id" in note for note in found["notes"])
    assert {path.name for path in done.glob("*.png")} == {"confusion.png", "layer_weights.png"}
    assert json.loads((done / "labels.json").read_text())["names"] == found["labels"]
    assert not list((done / "features").iterdir())


def test_the_learned_weights_of_layers_are_recorded(done):
    record = records(done)["pretrained-seed0"]
    assert len(record.weights) == len(record.layers) > 2
    assert sum(record.weights) == pytest.approx(1, abs=1e-5)
    assert len(set(record.weights)) > 1


def test_the_test_is_read_once(task, done, monkeypatch, capsys):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*") if path.parent.name == "tests"}
    monkeypatch.setattr("research.classification.run.answer", None)
    monkeypatch.setattr("research.classification.run.Run", None)
    classify(task, done.parent, f"data.trials=[{task[0] / 'trials.txt'}]")
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert "pretrained" in capsys.readouterr().out


def test_a_test_that_has_changed_is_not_read_again(task, done):
    file = task[0] / "test.jsonl"
    text = file.read_text()
    try:
        write_manifest(file, [json.loads(line) for line in text.splitlines()][:-1])
        (task[0] / "trials.txt").rename(task[0] / "kept.txt")
        (task[0] / "trials.txt").write_text(
            "".join((task[0] / "kept.txt").read_text().splitlines(keepends=True)[:55])
        )
        with pytest.raises(HarkError, match=r"test\.jsonl: has changed since"):
            classify(task, done.parent, f"data.trials=[{task[0] / 'trials.txt'}]")
    finally:
        file.write_text(text)
        (task[0] / "kept.txt").rename(task[0] / "trials.txt")


def test_more_seeds_reuse_those_that_are_done(task, done, monkeypatch):
    before = records(done)
    classify(task, done.parent, f"data.trials=[{task[0] / 'trials.txt'}]", "seeds=3", "baselines=[]")
    after = records(done)
    assert after.keys() - before.keys() == {"pretrained-seed2"}


def test_valid_chooses_the_learning_rate(task, tmp_path):
    path = classify(task, tmp_path, "lr_grid=[1e-9,1e-2]", "baselines=[]", "train.steps=12")
    values = {}
    for run in path.glob("pretrained-seed0-lr*"):
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        values[run.name] = min(line["error"] for line in lines if line["split"] == "valid")
    record = records(path)["pretrained-seed0"]
    assert len(values) == 2
    assert record.dev == min(values.values())
    assert values[record.run] == record.dev


@torch.no_grad()
def test_stored_features_are_those_of_the_encoder(task, tmp_path):
    cfg = command.compose(typed(task, tmp_path)).config
    ranks = start("cpu")
    upstream = Origins(cfg, read(cfg.upstream.path)).upstream("pretrained", 0)
    corpus = open_corpus(cfg, ranks, tokens=False)
    from research.classification.data import Supervised, every

    with stored(upstream, range(upstream.depth + 1), cfg.data, tmp_path / "features", ranks) as (
        instead,
        data,
    ):
        from research.data.manifest import load

        moved = load(data.test, data)
        layers = range(upstream.depth + 1)
        one, two = (classifier(cfg, each, layers, 3).eval() for each in (upstream, instead))
        for loaded, other in zip(every(corpus.test, cfg.data), every(moved, data), strict=True):
            assert loaded.rows == other.rows
            torch.testing.assert_close(
                one.embed(loaded.batch.audio).x, two.embed(other.batch.audio).x, rtol=1e-4, atol=1e-5
            )
        assert next(Supervised(cfg, ranks, corpus.vocabulary).train(0, [])).batch.labels.x.shape[1:] == (1, 1)
    assert not (tmp_path / "features").exists()


def test_stored_features_need_no_checkpoint(task, done, tmp_path):
    data, upstream = task
    paths = {
        split: extract(upstream, data / f"{split}.jsonl", tmp_path / split)
        for split in ("train", "valid", "test")
    }
    words = [
        o for o in typed(task, tmp_path / "runs") if not o.startswith(("upstream", "data.t", "data.valid"))
    ]
    words += [f"data.{split}=[{path / 'features.jsonl'}]" for split, path in paths.items()]
    with pytest.raises(HarkError, match="names stored features: leave out upstream"):
        command.run(words)
    with pytest.raises(HarkError, match="leave out tune"):
        command.run([*words, "baselines=[]", "tune.start=1"])
    assert command.run([*words, "baselines=[]"]) == 0
    (path,) = (tmp_path / "runs").iterdir()
    assert records(path)["pretrained-seed0"].answers == records(done)["pretrained-seed0"].answers


def test_tokens_have_an_error_rate(task, tmp_path, corpus):
    _, upstream = task
    lines = [json.loads(line) for line in (corpus / "phones_test.jsonl").read_text().splitlines()]
    lines = sorted(lines, key=lambda line: line["duration"])[:12]
    for line in lines:
        line["audio_filepath"] = str(corpus / line["audio_filepath"])
        line["said"] = ["pause" if phone == "pau" else "sound" for *_, phone in line["phones"]]
    paths = [write_manifest(tmp_path / f"{k}.jsonl", lines[4 * k : 4 * k + 4]) for k in range(3)]
    splits = zip(("train", "valid", "test"), paths, strict=True)
    overrides = [
        f"upstream={upstream}", "label=said", f"run.folder={tmp_path / 'runs'}", *QUICK, "~head.dim", "classify=superb_ctc",
        "head.proj=8", "head.units=8", *(f"data.{split}=[{path}]" for split, path in splits), "baselines=[]",
    ]  # fmt: skip
    assert command.run([o for o in overrides if "head.dim" not in o]) == 0
    (path,) = (tmp_path / "runs").iterdir()
    (score,) = json.loads((path / "classify.json").read_text())["scores"]
    assert score["metrics"]["error_rate"]["mean"] > 0


@pytest.mark.parametrize("name", ["nemo_nest_ecapa_tdnn_small", "nemo_nest_titanet_small"])
def test_the_recipes_train(task, tmp_path, name):
    mixed_noise(tmp_path)
    head = (
        ["head.channels=16", "head.wide=24", "head.scale=4", "head.squeeze=8"]
        if "ecapa" in name
        else ["head.channels=32", "head.wide=48"]
    )
    overrides = [
        f"classify={name}", *(o for o in typed(task, tmp_path / "runs") if "train.steps" not in o), *head, "head.attention=8",
        "train.steps=20", "train.validate_every=10", "checkpoint.every=10", "upstream.layers=[1,2]", "baselines=[]",
        f"data.noise=[{tmp_path / 'noise.jsonl'}]", "data.max_bad=1", "schedule.warmup=2",
    ]  # fmt: skip
    assert command.run(overrides) == 0
    (path,) = (tmp_path / "runs").iterdir()
    found = records(path)
    assert found.keys() == {"pretrained-seed0", "pretrained-seed1"}
    assert len(set(found["pretrained-seed0"].weights)) > 1


# --- what is refused


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["label=nothing"], "train.jsonl:1: has no nothing, which label=nothing asks for (it has: "),
        (["data.test=[]"], "data.test names no manifest"),
        (["data.test=${data.valid}"], "utterances are in"),
        (["upstream=nowhere"], "nowhere: nothing is here"),
        (["upstream="], "no checkpoint is named: type upstream="),
        (["upstream.layers=[9]", "baselines=[]"], "upstream.layers=[9]: '9' is none (there are: 0, 1, "),
        (["data.trials=[nothing.txt]"], "nothing.txt: this list of trials cannot be read"),
        (["criterion=ctc"], "one vector per"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(task, tmp_path, overrides, words):
    keys = {o.split("=")[0] for o in overrides}
    base = [o for o in typed(task, tmp_path) if o.split("=")[0] not in keys]
    with pytest.raises(HarkError) as error:
        command.run([*base, *overrides])
    assert words in str(error.value)
    assert not list(tmp_path.glob("*/tests/*"))


def test_bad_trials_are_named(task, tmp_path):
    bad = tmp_path / "trials.txt"
    bad.write_text("1 a b\n")
    with pytest.raises(HarkError, match=r"trials\.txt:1: 'a' is neither an id nor an audio path"):
        command.run(typed(task, tmp_path, f"data.trials=[{bad}]"))
