"""`hark probe`: several tasks in one command, features computed once, splits that are what they say they are."""

import argparse
import hashlib
import json
import os

import pytest
import torch

from research import runs
from research.compose import compose_config
from research.engine.weights import MODEL
from research.errors import HarkError
from research.evaluation import command, features, kept
from research.evaluation.records import MEANING, PRETRAINED, RANDOM, WEIGHTED
from research.model import assemble
from tests.borrowed import borrowed
from tests.sentences import write_manifest

PROBE = '''
from dataclasses import dataclass

import torch

from research.downstream import Answers, Features, Probe
from research.registry import register


@register("clan")
class Clan(Probe):
    """Errors of the nearest class mean, whose exponent dev chooses."""

    task, key, falls, mixes = "clan", "speaker", True, True
    baselines = ("log_mel_raw",)

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        pass

    def __init__(self, cfg):
        super().__init__()

    def run(self, train, dev, test, seed):
        assert all(x.ndim == 2 + bool(train.layers) for x in train.frames)
        weights = [0.25, 0.25, 0.5][: len(train.layers)]
        known = sorted(set(train.labels))
        pooled = [torch.stack([x.mean(0).flatten() for x in part.frames]) for part in (train, dev, test)]
        of = torch.tensor([known.index(label) for label in train.labels])
        means = torch.stack([pooled[0][of == k].mean(0) for k in range(len(known))])
        found = []
        for part, x in ((dev, pooled[1]), (test, pooled[2])):
            said = torch.cdist(x, means).argmin(1)
            wrong = [known[k] != label for k, label in zip(said, part.labels, strict=True)]
            counts = torch.tensor([[float(each), 1.0] for each in wrong])
            found.append(Answers(counts, lambda c: {"error": c[:, 0] / c[:, 1]}, {"power": 2.0}, weights))
        return tuple(found)
'''
BRIEF = ("--seeds", "2", "--sentences", "6")


@pytest.fixture(scope="module")
def folder(corpus, tmp_path_factory):
    """Manifests of phones, without one for dev, and of a task of one's own with all that can be there."""
    folder = tmp_path_factory.mktemp("suite")
    for split, count in (("train", 12), ("test", 4)):
        write_manifest(folder / f"phones_{split}.jsonl", lines_of(corpus, f"phones_{split}")[:count])
    by = {}
    for line in lines_of(corpus, "train"):
        by.setdefault(line["speaker"], []).append(line)
    speakers = [some for some in by.values() if len(some) >= 12][:2]
    parts = {"train": slice(0, 6), "valid": slice(6, 8), "test": slice(8, 12)}
    for split, part in parts.items():
        lines = [line | {"room": split} for some in speakers for line in some[part]]
        write_manifest(folder / f"clan_{split}.jsonl", lines)
    write_facts(folder)
    (folder / "clan.py").write_text(PROBE)
    return folder


def lines_of(corpus, name):
    lines = [json.loads(line) for line in (corpus / f"{name}.jsonl").read_text().splitlines()]
    for line in lines:
        line["audio_filepath"] = str(corpus / line["audio_filepath"])
    return sorted((line for line in lines if line["duration"] > 0.5), key=lambda line: line["duration"])


def write_facts(folder, **changes):
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("clan_*.jsonl")
    }
    facts = {"split": "by room", "confound": "none", "apart": ["room"], "sha256": digests}
    (folder / "clan.json").write_text(json.dumps(facts | changes))


@pytest.fixture(scope="module")
def run(folder, module_cache):
    """An untrained run with one checkpoint, and the probe of `PROBE`."""
    tiny = ["encoder=fastconformer_tiny", "encoder.stride=4", "quantizer.codes=64", "augmentation=none"]
    data = [f"data.train=[{folder / 'phones_train.jsonl'}]", f"run.folder={folder}"]
    composed = compose_config([*tiny, *data])
    path = runs.create(composed.config, composed.choices, composed.overrides)
    file = path / "checkpoints" / "step_30" / MODEL
    file.parent.mkdir(parents=True)
    torch.save(assemble(composed.config).state_dict(), file)
    with borrowed([folder / "clan.py"]):
        yield path


@pytest.fixture(scope="module")
def found(run):
    """Lines of both tasks, asked in one command."""
    return probe(run, *BRIEF, "--dev", "2", "--probe", "pnmi", "clan")


def probe(run, *words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(word) for word in (run, *words)]))
    return list(runs.read_jsonl(run / "probes.jsonl"))


def numbers(lines):
    return [
        (
            line["probe"],
            line["representation"],
            line["layer"],
            line["period"],
            line["metric"],
            line["values"],
            line["dev"],
        )
        for line in lines
        if line["kind"] == "score"
    ]


def test_every_probe_asks_the_manifests_of_its_task(found, folder):
    asked = {line["probe"]: [path.rpartition("/")[2] for path in line["manifests"]] for line in found}
    assert asked["pnmi"] == ["phones_train.jsonl", "phones_test.jsonl"]
    assert asked["clan"] == [f"clan_{split}.jsonl" for split in ("train", "valid", "test")]
    assert {(line["probe"], line["task"]) for line in found} == {("pnmi", "phones"), ("clan", "clan")}
    clan = [line for line in found if line["probe"] == "clan" and line["kind"] == "score"]
    assert {(line["n_train"]["utterances"], line["n_test"]["utterances"]) for line in clan} == {(6, 8)}
    assert clan[0]["n_dev"] == {"utterances": 2, "manifest": True}
    assert clan[0]["n_test"]["in_training"]["speaker"] == [2, 2]
    assert clan[0]["split"] == {"split": "by room", "confound": "none", "apart": ["room"]}
    assert clan[0]["chosen_settings"] == {"power": [2.0, 2.0]}
    digest = hashlib.sha256((folder / "clan_test.jsonl").read_bytes()).hexdigest()
    assert list(clan[0]["manifests"].values())[-1] == digest


def test_layers_beside_all_baselines_and_the_weighted_sums(found):
    clan = [line for line in found if line["probe"] == "clan" and line["kind"] == "score"]
    names = [(line["representation"], line["layer"]) for line in clan]
    encoders = [(name, layer) for name in (PRETRAINED, RANDOM) for layer in (0, 1, 2)]
    sums = [(WEIGHTED, None), (f"{RANDOM}_{WEIGHTED}", None)]
    levels = [(name, None) for name in ("log_mel", "mfcc", "log_mel_raw") for _ in range(2)]
    assert names == [*levels, *encoders[:3], sums[0], *encoders[3:], sums[1]]
    weighted = [line["learned_weights"] for line in clan if WEIGHTED in line["representation"]]
    told = {
        "meaning": MEANING,
        "layers": [0, 1, 2],
        "mean": [0.25, 0.25, 0.5],
        "values": 2 * [[0.25, 0.25, 0.5]],
    }
    assert weighted == [told, told]
    clusters = {line.get("representation", "") for line in found if line["probe"] == "pnmi"}
    assert not any(WEIGHTED in name or name == "log_mel_raw" for name in clusters)
    mine = [line for line in clan if line["representation"] == PRETRAINED]
    best = min(mine, key=lambda line: sum(line["dev"]))
    assert [line["layer"] for line in mine if line["chosen"]] == [best["layer"]]


def test_scores_from_the_cache_are_equal_to_the_bit(run, found, capsys, monkeypatch):
    words = (*BRIEF, "--dev", "2", "--probe", "clan")
    anew = probe(run, *words, "--no-cache")
    assert numbers(anew) == numbers(found)
    with monkeypatch.context() as patch:
        for name in ("encode", "frontend_features"):
            patch.setattr(features, name, None)  # nothing is computed
        again = probe(run, *words)
    assert numbers(again) == numbers(found)
    assert {line["test_reads"] for line in again if line["probe"] == "clan"} == {3}
    printed = " ".join(capsys.readouterr().out.split())
    assert (
        "mini probe of step 30: clan; its 8 test utterances were asked 3 times of this checkpoint" in printed
    )
    assert f"clan weighted_sum ({MEANING}): layer 0 0.25, layer 1 0.25, layer 2 0.50" in printed
    assert "clan error (lower is better)" in printed
    assert "2 of the test's 2 speakers are in training too" in printed
    assert "apart: room" in printed
    assert "SUPERB" not in printed.upper()


def test_other_weights_other_audio_and_other_layers_are_other_features(run, corpus):
    from research.evaluation.representations import find
    from research.evaluation.speech import Speech

    upstream = find(run, None).upstream
    speech = Speech([torch.randn(4000), torch.randn(3000)], [[], []], ["", ""])
    changed = Speech([speech.audio[0], -speech.audio[1]], [[], []], ["", ""])
    names = {kept.name_of(upstream, layers, speech, "cpu") for layers in ([0], [0, 1])}
    names |= {kept.name_of(upstream, [0], changed, "cpu"), kept.name_of(upstream, [0], speech, "cuda")}
    names.add(kept.name_of(upstream, [0], Speech(speech.audio[::-1], [[], []], ["", ""]), "cpu"))
    first = next(iter(upstream.encoder.parameters()))
    with torch.no_grad():
        first.add_(1)
    names.add(kept.name_of(upstream, [0], speech, "cpu"))
    assert len(names) == 6


def test_a_damaged_file_is_computed_again_and_the_oldest_go(tmp_path):
    store, made = kept.Kept(tmp_path), [[torch.ones(3, 2), torch.zeros(1, 2)]]
    for name in ("a", "b", "c"):
        assert store.get(name, lambda: made) is made
        os.utime(tmp_path / f"{name}.pt", (1, ord(name)))
    (found,) = store.get("a", None)  # used last, now
    assert all(map(torch.equal, found, made[0]))
    size = (tmp_path / "a.pt").stat().st_size
    kept.prune(tmp_path, 2 * size)
    assert {file.name for file in tmp_path.iterdir()} == {"a.pt", "c.pt"}
    (tmp_path / "a.pt").write_bytes(b"not a file of torch")
    assert store.get("a", lambda: made) is made
    (found,) = store.get("a", None)
    assert all(map(torch.equal, found, made[0]))


def test_without_names_all_are_asked_whose_manifests_are_there(run, folder, tmp_path, capsys):
    for split in ("train", "valid", "test"):
        (tmp_path / f"clan_{split}.jsonl").write_bytes((folder / f"clan_{split}.jsonl").read_bytes())
    probe(run, *BRIEF, "--data", tmp_path, "--baseline", "log_mel", "--out", tmp_path / "out.jsonl")
    lines = list(runs.read_jsonl(tmp_path / "out.jsonl"))
    assert {line["probe"] for line in lines} == {"clan"}
    assert {line["n_dev"]["utterances"] for line in lines if line["kind"] == "score"} == {4}
    assert "mfcc" not in {line.get("representation") for line in lines}
    printed = " ".join(capsys.readouterr().out.split())
    assert f"phones_train.jsonl: no such manifest; `hark prepare tasks {tmp_path}` makes" in printed
    assert "not asked: " in printed
    with pytest.raises(HarkError, match=r"phones_train.jsonl: no such manifest; `hark prepare tasks"):
        probe(run, "--data", tmp_path, "--probe", "clan", "pnmi")
    with pytest.raises(HarkError, match=r"no such manifest; `hark prepare tasks"):
        probe(run, "--data", tmp_path / "nowhere")


def test_splits_that_are_not_apart_are_refused(run, folder, tmp_path):
    paths = {split: folder / f"clan_{split}.jsonl" for split in ("train", "valid", "test")}
    lines = {split: path.read_text().splitlines(keepends=True) for split, path in paths.items()}
    (tmp_path / "half.jsonl").write_text("".join(lines["train"] + lines["valid"][:1]))
    (tmp_path / "leak.jsonl").write_text("".join(lines["valid"] + lines["test"][:3]))
    for words, reason in (
        (
            ("--train", tmp_path / "half.jsonl", "--valid", paths["valid"]),
            "clan_valid.jsonl: 1 utterances are in",
        ),
        (
            ("--train", paths["train"], "--valid", tmp_path / "leak.jsonl"),
            "clan_test.jsonl: 3 utterances are in .*leak",
        ),
        (("--train", tmp_path / "leak.jsonl"), "clan_test.jsonl: 3 utterances are in"),
        (
            ("--probe", "pnmi", "clan", "--train", paths["train"]),
            "of one task, but --probe names probes of phones, clan",
        ),
    ):
        with pytest.raises(HarkError, match=reason):
            probe(run, "--probe", "clan", *words)


def test_what_a_task_says_of_its_splits_is_checked(run, folder, tmp_path):
    for split in ("train", "valid", "test"):
        (tmp_path / f"clan_{split}.jsonl").write_bytes((folder / f"clan_{split}.jsonl").read_bytes())
    for changes, reason in (
        (
            {"apart": ["speaker"]},
            "clan_test.jsonl: 2 of its values of 'speaker' are in .*clan_train.jsonl too",
        ),
        ({"apart": ["city"]}, "clan_test.jsonl: has lines without 'city'"),
        (
            {"sha256": {"clan_valid.jsonl": "0" * 64}},
            "clan_valid.jsonl: is not the file that clan.json tells of",
        ),
    ):
        write_facts(tmp_path, **changes)
        with pytest.raises(HarkError, match=reason):
            probe(run, "--probe", "clan", "--data", tmp_path)
    mute = [json.loads(line) for line in (tmp_path / "clan_test.jsonl").read_text().splitlines()]
    write_manifest(tmp_path / "clan_test.jsonl", [mute[0], mute[1] | {"speaker": ""}])
    write_facts(tmp_path)
    with pytest.raises(HarkError, match=r"clan_test.jsonl:2: has no 'speaker', which a probe asks"):
        probe(run, "--probe", "clan", "--data", tmp_path)
