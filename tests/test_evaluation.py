"""Evidence: honest splits, frozen features, intervals that hold the truth, records that do not pile up."""

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from plugins.encoders.fastconformer import FastConformer
from plugins.frontends.log_mel import LogMel
from research import registry, runs
from research.compose import compose_config
from research.config import Data
from research.data.manifest import load
from research.downstream import Features
from research.engine.weights import MODEL
from research.errors import HarkError
from research.evaluation import command, features, splits
from research.evaluation.kept import Kept
from research.evaluation.records import PRETRAINED, RANDOM, WEIGHTED
from research.evaluation.speech import gather
from research.evaluation.tasks import Splits
from research.model import Upstream, assemble, build_upstream
from tests.sentences import write_manifest

NEMO = Path(__file__).parent / "fixtures" / "nemo" / "large_style" / "model.nemo"


# --- features


@pytest.fixture(scope="module")
def task(corpus):
    """A few labelled utterances of different lengths."""
    train, test = (load([corpus / f"phones_{split}.jsonl"], Data()) for split in ("train", "test"))
    order = train.durations.argsort()
    rows = sorted(int(order[i]) for i in (0, 1, 5, 20, len(order) // 2))
    return gather(Splits("phones", train, test), splits.Draw([rows[:3]], rows[3:]), 16_000, [""])


def upstream_of(**extra):
    torch.manual_seed(0)
    cfg = FastConformer.Config(dim=32, depth=2, heads=2, channels=8, **extra)
    return build_upstream(LogMel.Config(), cfg)


def test_features_in_a_batch_are_those_of_the_utterance_alone(task, monkeypatch):
    upstream, speech = upstream_of(), task.speech.pick(range(5))
    together = features.encode(upstream, speech)
    monkeypatch.setattr(features, "BATCH", 1)
    alone = features.encode(upstream, speech)
    assert list(together) == [0, 1, 2]
    for layer, found in together.items():
        assert found.period == 0.08
        for x, y, audio in zip(found.frames, alone[layer].frames, speech.audio, strict=True):
            assert x.dtype == torch.float32
            assert x.shape == (-(-(len(audio) // 160) // 8), 32)
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_batches_hold_every_row_once_and_stay_small():
    lengths = [300_000, 5, 700_000, 900_000, 1_700_000, 650_000]
    found = list(features.batches(lengths, features.BATCH))
    assert sorted(i for rows in found for i in rows) == list(range(6))
    assert all(
        len(rows) == 1 or len(rows) * max(lengths[i] for i in rows) <= features.BATCH for rows in found
    )
    assert len(found) < 6


def test_encoding_moves_no_state(task):
    upstream = upstream_of(dropout=0.5)
    encoder = upstream.encoder
    encoder.train()
    encoder.layers[0].eval()
    modes = [module.training for module in encoder.modules()]
    state = {name: value.clone() for name, value in encoder.state_dict().items()}
    pools = [module.pool.clone() for module in encoder.modules() if hasattr(module, "pool")]
    torch.manual_seed(1)
    drawn = torch.get_rng_state()
    first = features.encode(upstream, task.speech.pick([0]), [2])
    assert torch.equal(drawn, torch.get_rng_state())
    assert [module.training for module in encoder.modules()] == modes
    assert upstream.frontend.training
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
    after = [module.pool for module in encoder.modules() if hasattr(module, "pool")]
    assert len(after) == 2
    assert all(map(torch.equal, pools, after))
    assert not first[2].frames[0].requires_grad
    assert torch.equal(first[2].frames[0], features.encode(upstream, task.speech.pick([0]), [2])[2].frames[0])


def test_modes_come_back_after_a_failure():
    module = nn.Sequential(nn.Linear(1, 1), nn.Dropout().eval())

    def fail():
        with features.evaluating(module):
            assert not module[0].training
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert [m.training for m in module.modules()] == [True, True, False]


def test_stacking_repeats_the_last_frame():
    x = torch.arange(5.0)[:, None]
    found = features.stacked(Features([x], 0.01, []), 4)
    assert found.period == 0.04
    assert found.frames[0].tolist() == [[0, 1, 2, 3], [4, 4, 4, 4]]


# --- the command, on a run


@pytest.fixture(scope="module")
def run(corpus, tmp_path_factory, module_cache):
    """An untrained run with one checkpoint, and small manifests with phones."""
    folder = tmp_path_factory.mktemp("probed")
    for split, count in (("train", 12), ("test", 4)):
        lines = [json.loads(line) for line in (corpus / f"phones_{split}.jsonl").read_text().splitlines()]
        lines = sorted(lines, key=lambda line: line["duration"])[:count]
        for line in lines:
            line["audio_filepath"] = str(corpus / line["audio_filepath"])
        write_manifest(folder / f"phones_{split}.jsonl", lines)
    write_manifest(folder / "pretrain.jsonl", [*lines[:1], *lines[2:3]])
    tiny = ["encoder=fastconformer_tiny", "encoder.stride=4", "quantizer.codes=64", "augmentation=none"]
    composed = compose_config([*tiny, f"data.train=[{folder / 'pretrain.jsonl'}]", f"run.folder={folder}"])
    path = runs.create(composed.config, composed.choices, composed.overrides)
    file = path / "checkpoints" / "step_30" / MODEL
    file.parent.mkdir(parents=True)
    torch.save(assemble(composed.config).state_dict(), file)
    return path


def probe(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(word) for word in words]))


def test_a_run_is_probed_beside_its_baselines(run, capsys, monkeypatch):
    registry.load_plugins()
    monkeypatch.setattr(registry.config_of("probe", "phone_frames").training, "steps", 20)
    words = (run, "--seeds", "2", "--dev", "2", "--sentences", "6")
    probe(*words, "--probe", "phone_frames", "pnmi")
    lines = [json.loads(line) for line in (run / "probes.jsonl").read_text().splitlines()]
    scores = [line for line in lines if line["kind"] == "score" and line["headline"]]
    encoders = [(name, layer, 0.04) for name in (PRETRAINED, RANDOM) for layer in (0, 1, 2)]
    baselines = [(name, None, period) for name in ("log_mel", "mfcc") for period in (0.01, 0.04)]
    for probe_name in ("phone_frames", "pnmi"):
        mine = [(s["representation"], s["layer"], s["period"]) for s in scores if s["probe"] == probe_name]
        assert [each for each in mine if WEIGHTED not in each[0]] == [*baselines, *encoders]
    assert {line["probe"] for line in lines if line["kind"] == "comparison"} == {"phone_frames", "pnmi"}
    for line in scores:
        assert (line["schema"], line["step"], line["n_seeds"], len(line["values"])) == (1, 30, 2, 2)
        assert (line["n_train"]["utterances"], line["n_dev"]["utterances"]) == (6, 2)
        assert line["n_test"]["utterances"] == 4
        assert line["n_test"]["heard_in_pretraining"] == 2
        assert 0 < line["mean"] < 1
        assert line["low"] < line["mean"] < line["high"]
        assert [Path(path).name for path in line["manifests"]] == ["phones_train.jsonl", "phones_test.jsonl"]
    assert any(line["values"][0] != line["values"][1] for line in scores)  # another sample, another init
    test = load([run.parent / "phones_test.jsonl"], Data())
    frames = sum(-(-int(duration * 100 + 1e-6) // 4) for duration in test.durations)
    asked = {line["n_test"]["frames"] for line in scores if line["layer"] is not None}
    assert asked == {frames}
    printed = capsys.readouterr().out
    assert printed.count("intervals are disjoint") + printed.count("intervals overlap") == 2
    assert "2 seeds, each with 6 training utterances" in printed
    assert "4 test utterances were asked once" in " ".join(printed.split())
    probe(*words, "--probe", "pnmi")
    again = [json.loads(line) for line in (run / "probes.jsonl").read_text().splitlines()]
    reads = {line["probe"]: line["test_reads"] for line in again}
    assert reads == {"phone_frames": 1, "pnmi": 2}
    for line in [*lines, *again]:
        del line["test_reads"], line["reads"]
    assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, lines))  # the same numbers, no line twice


def test_bad_requests_are_refused_in_one_line(run, tmp_path):
    test = (run.parent / "phones_test.jsonl").read_text()
    leaky = tmp_path / "leaky.jsonl"
    leaky.write_text((run.parent / "phones_train.jsonl").read_text() + test)
    with pytest.raises(HarkError, match=r"4 utterances are in .*leaky.jsonl too, the first is"):
        probe(run, "--probe", "pnmi", "--train", leaky)
    mute = tmp_path / "mute.jsonl"
    mute.write_text(
        "".join(json.dumps(json.loads(line) | {"phones": []}) + "\n" for line in test.splitlines())
    )
    with pytest.raises(HarkError, match=r"mute.jsonl:1: has no phones"):
        probe(run, "--probe", "pnmi", "--test", mute)
    for words, reason in (
        (("--train", tmp_path / "none.jsonl"), "none.jsonl: no such manifest"),
        (("--probe", "pnm"), "did you mean 'pnmi'"),
        (("--step", "31"), r"no checkpoint of step 31 is here \(there are: 30\)"),
        (("--seeds", "1"), "--seeds 1: must be at least 2"),
        (("--baseline", "logmel"), "did you mean 'log_mel'"),
    ):
        with pytest.raises(HarkError, match=reason):
            probe(run, *words)
    with pytest.raises(HarkError, match="is none of what hark opens"):
        probe(tmp_path)


def test_a_foreign_checkpoint_is_probed_as_a_run_is(run, tmp_path, capsys):
    path = tmp_path / "nest.nemo"
    path.write_bytes(NEMO.read_bytes())
    phones = [
        word for split in ("train", "test") for word in (f"--{split}", run.parent / f"phones_{split}.jsonl")
    ]
    probe(path, "--probe", "pnmi", "--seeds", "2", "--dev", "2", "--sentences", "6", *phones)
    lines = [json.loads(line) for line in (tmp_path / "nest.nemo.probes.jsonl").read_text().splitlines()]
    assert {(line["checkpoint"], line["step"]) for line in lines} == {(str(path), None)}
    layers = [
        (s["representation"], s["layer"]) for s in lines if s.get("headline") and s["layer"] is not None
    ]
    assert layers == [(name, layer) for name in (PRETRAINED, RANDOM) for layer in (0, 1, 2)]
    printed = capsys.readouterr().out
    assert f"mini probe of {path}: phones" in printed
    assert "unknown how many of them heard" in printed
    probe(
        run,
        "--probe",
        "pnmi",
        "--seeds",
        "2",
        "--dev",
        "2",
        "--sentences",
        "6",
        "--out",
        tmp_path / "all.jsonl",
    )
    assert {json.loads(line)["checkpoint"] for line in (tmp_path / "all.jsonl").read_text().splitlines()} == {
        run.name
    }
    with pytest.raises(HarkError, match=r"phones_train\.jsonl: no such manifest; .*, or name one"):
        probe(path)


def test_random_encoders_differ_from_seed_to_seed_and_from_the_pretrained_start(run, task):
    from research.evaluation.representations import Representations, find

    cfg, subject = runs.load_config(run), find(run, None)
    compared = Representations(subject, {}, task.speech.pick([0]), Kept(None))
    last = [[f for _, layer, f in compared.under(seed, [0], mixes=False) if layer == 2] for seed in (0, 1)]
    (start, first), (same, second) = ([f.frames[0] for f in each] for each in last)
    assert torch.equal(start, same)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, start)
    again = replace(cfg, run=replace(cfg.run, seed=cfg.run.seed + 1))
    fresh = assemble(again)
    upstream = Upstream(fresh.frontend, fresh.encoder)
    next_start = features.encode(upstream, task.speech.pick([0]), [2])[2].frames[0]
    assert not torch.allclose(first, next_start)


def test_runs_of_consecutive_seeds_share_no_random_encoder(run):
    from research.evaluation.representations import find

    subject = find(run, None)

    def fresh(run_seed, seed):
        return list(
            replace(subject, run=replace(subject.run, seed=run_seed)).fresh(seed).encoder.parameters()
        )

    drawn = [fresh(run_seed, seed) for run_seed, seed in itertools.product(range(3), range(3))]
    for one, other in itertools.combinations(drawn, 2):
        assert not all(map(torch.equal, one, other))
    assert all(map(torch.equal, drawn[1], fresh(0, 1)))


class Spoilt(Kept):
    """Of the second utterance, one encoding has a frame that is NaN, and a frontend's one that is infinite."""

    def __init__(self, layer, call):
        super().__init__(None)
        self.layer, self.call, self.calls = layer, call, itertools.count()

    def encode(self, upstream, speech, layers=None):
        found = super().encode(upstream, speech, layers)
        if next(self.calls) == self.call:
            found[self.layer].frames[1][0, 0] = torch.nan
        return found

    def frontend(self, frontend, speech):
        found = super().frontend(frontend, speech)
        found.frames[1][-1] = torch.inf
        return found


def test_frames_that_are_not_finite_are_refused(run, task):
    from research.evaluation.representations import Representations, find

    subject, speech = find(run, None), task.speech.pick([0, 1])
    where = rf"{task.speech.places[1]}: "
    with pytest.raises(HarkError, match=f"{where}pretrained layer 1 makes frames of it that are NaN"):
        Representations(subject, {}, speech, Spoilt(1, 0))
    compared = Representations(subject, {}, speech, Spoilt(2, 1))
    with pytest.raises(HarkError, match=f"{where}random_init layer 2 makes frames"):
        list(compared.under(0, [0, 1], mixes=False))
    with pytest.raises(HarkError, match=f"{where}log_mel makes frames"):
        Representations(subject, {"log_mel": LogMel(LogMel.Config())}, speech, Spoilt(1, None))
