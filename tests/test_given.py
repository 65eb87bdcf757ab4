"""Labels of frames that a manifest names: where they go, and what is said when they are missing or do not fit."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from research.compose import compose_config
from research.data.features import read_labels
from research.engine.gangs import start
from research.errors import HarkError
from research.launch.predict import predict
from research.launch.preflight import of_overrides
from research.model import assemble, check
from research.runs import folder, read_jsonl
from research.training.given import Given
from research.training.loop import open_source, train
from tests.stores import extract, lines_of

SMALL = (
    "objective=hubert",
    "objective.codes=6",
    "encoder=fastconformer_tiny",
    "quantizer=none",
    "masking.length=4",
    "data.workers=0",
    "data.reader=torch",
    "log.wandb=disabled",
    "run.device=cpu",
)


@pytest.fixture(scope="module")
def labels(speech, tmp_path_factory):
    """Clusters of stacked MFCCs, as far apart as the encoder's frames: {"train": manifest, "valid": manifest}."""
    home = tmp_path_factory.mktemp("labels")
    words = (
        "frontend=mfcc",
        speech["train"],
        home / "train",
        "--stack",
        "8",
        "--layers",
        "none",
        "--kmeans-layer",
        "0",
    )
    extract(*words, "--kmeans", "6")
    codebook = home / "train" / "kmeans.safetensors"
    extract("frontend=mfcc", speech["valid"], home / "valid", *words[3:7], "--kmeans-from", codebook)
    return {split: home / split / "labels.jsonl" for split in ("train", "valid")}


def composed(labels, *overrides):
    return compose_config([*SMALL, f"data.train=[{labels}]", *overrides])


def source_of(labels, *overrides):
    cfg = composed(labels, *overrides).config
    return open_source(cfg, start("cpu"), Given.of(check(cfg)))


def changed(labels, tmp_path, change):
    """The same manifest elsewhere, each line changed."""
    lines = lines_of(labels)
    for number, line in enumerate(lines):
        line["label_path"] = str(labels.parent / line["label_path"])
        change(number, line)
    path = tmp_path / "changed.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_batch_has_the_labels_of_its_utterances_as_many_as_frames(labels):
    source = source_of(labels["train"])
    batch = next(source.train(0, [])).batch
    stored = {source.speech.utterance(i).id: source.speech.extra(i) for i in range(len(source.speech))}
    frames = -(-assemble(source.cfg).frontend(batch.audio).lengths // 8)
    assert len(batch.ids) > 1
    for row, name in enumerate(batch.ids):
        ids = read_labels(stored[name], labels["train"].parent)
        assert torch.equal(batch.labels.x[row, : len(ids)], ids)
        assert batch.labels.lengths[row] == len(ids)
        assert abs(len(ids) - frames[row]) <= 1


def test_labels_are_read_in_training_and_validation(labels, tmp_path):
    run = composed(
        labels["train"],
        f"data.valid=[{labels['valid']}]",
        f"run.folder={tmp_path}",
        "train.steps=2",
        "train.log_every=1",
        "data.batch_seconds=20",
    )
    assert train(run) == 0
    records = read_jsonl(folder(run.config) / "metrics.jsonl")
    assert {record["split"] for record in records} >= {"train", "valid"}
    assert all(1 < record["target_ppl"] <= 6 for record in records if "target_ppl" in record)


def test_a_manifest_without_labels_is_refused_with_what_to_type(speech):
    with pytest.raises(
        HarkError, match=r"train.jsonl:1: has no label_path, .*type `hark extract RUN .* --kmeans 6"
    ):
        source_of(speech["train"])


def test_a_later_line_without_them_is_named(labels, tmp_path):
    path = changed(labels["train"], tmp_path, lambda number, line: number == 7 and line.pop("label_key"))
    with pytest.raises(HarkError, match=r"changed.jsonl:8: has no label_key"):
        next(source_of(path, "data.batch_seconds=1000", "data.buckets=1").train(0, []))


def test_shards_that_are_gone_are_named_with_their_line(labels, tmp_path):
    path = changed(labels["train"], tmp_path, lambda _, line: line.update(label_path="gone.safetensors"))
    with pytest.raises(HarkError, match=r"changed.jsonl:1: .*gone.safetensors.* extract the labels again"):
        source_of(path)


def test_ids_that_the_head_has_not_are_refused(labels, tmp_path):
    save_file({"big": torch.tensor([0, 6], dtype=torch.int16)}, tmp_path / "big.safetensors")
    where = {"label_path": str(tmp_path / "big.safetensors"), "label_key": "big"}
    path = changed(labels["train"], tmp_path, lambda _, line: line.update(where))
    with pytest.raises(
        HarkError, match=r"changed.jsonl:1: label_key=big holds the id 6, but objective.codes=6"
    ):
        source_of(path)


def test_streams_have_none(labels):
    with pytest.raises(HarkError, match=r"data=lhotse: has no labels of frames, .*type data=manifest"):
        check(composed(labels["train"], "data=lhotse").config)


def test_preflight_tells_of_labels_and_of_another_hop(labels, tmp_path):
    def said(*overrides):
        run = [*SMALL, f"data.train=[{labels['train']}]", f"run.folder={tmp_path}", *overrides]
        return {each.name: (each.verdict.value, each.text) for each in of_overrides(run, 5)}["given"]

    assert said() == ("ok", "labels are there in 5 lines that were looked at")
    verdict, text = said("encoder.stride=4")
    assert verdict == "refuse"
    assert "labels, but the encoder gives" in text


def test_preflight_lets_texts_be_learnt(speech, tmp_path):
    """No text is at hand where it counts targets."""
    told = tmp_path / "told.jsonl"
    lines = [json.loads(line) | {"text": "ab"} for line in Path(speech["train"]).read_text().splitlines()]
    told.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = [*SMALL, "objective=ctc", "objective.alphabet=ab", f"data.train=[{told}]", f"run.folder={tmp_path}"]
    run = [word for word in run if word not in ("objective=hubert", "objective.codes=6")]
    said = {each.name: (each.verdict.value, each.text) for each in of_overrides(run, 5)}
    assert said["mask"] == ("ok", "targets are what the texts say")
    assert said["memory"][0] == "ok"


def test_what_a_step_takes_can_be_foretold(labels):
    assert predict(composed(labels["train"]).config, rows=2, seconds=2.0).peak > 0


def test_a_frontend_with_weights_is_no_source_of_labels(speech, tmp_path):
    with pytest.raises(HarkError, match=r"frontend=conv_wave: has weights, and these are not trained"):
        extract("frontend=conv_wave", speech["train"], tmp_path)
    with pytest.raises(HarkError, match=r"--stack 2: is for frontend=NAME"):
        extract(tmp_path, speech["train"], tmp_path, "--stack", "2")
