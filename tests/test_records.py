"""What is written down of probes."""

import json
from dataclasses import replace

import pytest

from research import runs
from research.evaluation import records
from research.evaluation.records import PRETRAINED, RANDOM, WEIGHTED, Found, Key, Setting
from tests.sentences import answers

COMMON = Setting(checkpoint="run", step=7, train=3, dev=2, test=3, seen=0, manifests={})


def key(representation, layer, period=0.08):
    return Key("guess", representation, layer, period)


def layers(dev_and_test):
    """Two seeds that agree: layer -> right answers of 2 dev and 3 test utterances."""
    dev, test = answers(*dev_and_test[:2]), answers(*dev_and_test[2:])
    return Found((), [dev, dev], [test, test], [30, 30], 30)


def uncounted(lines):
    return [{k: v for k, v in line.items() if k not in ("test_reads", "reads")} for line in lines]


def found_lines(**options):
    found = {
        key("log_mel", None, 0.01): layers([50, 50, 50, 51, 52]),
        key(PRETRAINED, 0): layers([60, 60, 50, 51, 52]),
        key(PRETRAINED, 1): layers([55, 55, 90, 91, 92]),  # better on the test: not to be chosen for that
        key(RANDOM, 0): layers([40, 40, 40, 41, 42]),
        key(RANDOM, 1): layers([41, 41, 30, 31, 32]),
    }
    return records.lines(found, COMMON, **options)


def test_the_dev_utterances_choose_the_layer():
    lines = found_lines()
    assert [(s["representation"], s["layer"]) for s in lines if s.get("chosen")] == [
        (PRETRAINED, 0),
        (RANDOM, 1),
    ]
    scores = {(s["representation"], s["layer"]): s for s in lines if s["kind"] == "score"}
    assert scores[PRETRAINED, 0]["mean"] == pytest.approx(0.51)
    assert scores[PRETRAINED, 0]["dev"] == pytest.approx([0.6, 0.6])


def test_a_metric_that_dev_lacks_is_kept_of_the_test():
    def two(counts):
        return {"share": counts[:, 0] / counts[:, 1], "more": counts[:, 0]}

    found = layers([60, 60, 50, 51, 52])
    found.test = [replace(each, metrics=two) for each in found.test]
    share, more = records.scores(key(PRETRAINED, 0), found, COMMON)
    assert (share["headline"], share["dev"]) == (True, pytest.approx([0.6, 0.6]))
    assert (more["metric"], more["dev"], more["mean"]) == ("more", [], 153)


def test_the_comparison_says_whether_intervals_meet():
    apart = found_lines()[-1]
    assert apart["kind"] == "comparison"
    assert (apart[PRETRAINED]["layer"], apart[RANDOM]["layer"]) == (0, 1)
    assert apart["disjoint"]
    assert apart["pretrained_higher"]
    found = {
        key(PRETRAINED, 0): layers([60, 60, 30, 50, 70]),
        key(RANDOM, 0): layers([60, 60, 40, 52, 75]),
    }
    close = records.lines(found, COMMON)[-1]
    assert not close["disjoint"]
    assert not close["pretrained_higher"]


def test_a_probe_that_is_run_again_replaces_its_lines(tmp_path):
    path, lines = tmp_path / "probes.jsonl", found_lines()
    records.store(path, lines)
    records.store(path, [line | {"probe": "other"} for line in lines])
    records.store(path, [line | {"step": 8} for line in lines])
    records.store(path, [line | {"again": 1} for line in lines])
    written = uncounted(runs.read_jsonl(path))
    assert len(written) == 3 * len(lines)
    again = [line for line in written if "again" in line]
    assert [(line["step"], line["probe"]) for line in again] == [(7, "guess")] * len(lines)
    assert [line | {"again": 1} for line in lines] == again


def test_of_errors_the_lowest_is_the_best():
    lines = found_lines(falls={"guess"})
    chosen = [(s["representation"], s["layer"]) for s in lines if s.get("chosen")]
    assert chosen == [(PRETRAINED, 1), (RANDOM, 0)]
    said = lines[-1]
    assert said["falls"]
    assert said["pretrained_higher"]  # 0.91 against 0.41, of errors
    assert not said["pretrained_better"]
    assert not any(line["falls"] for line in found_lines())
    assert found_lines()[-1]["pretrained_better"]


def test_looks_at_the_test_are_counted(tmp_path):
    """For every test manifest and checkpoint, whichever probes asked; lines without a count are one look."""

    def store(**changes):
        return {
            line["test_reads"] for line in records.store(path, [line | changes for line in found_lines()])
        }

    path = tmp_path / "probes.jsonl"
    one, two = {"train": "t", "test": "x"}, {"train": "x", "test": "y"}
    path.write_text("".join(json.dumps(line | {"manifests": one}) + "\n" for line in found_lines()))
    assert store(manifests=one) == {2}
    assert store(manifests=one, probe="other") == {3}
    assert store(manifests=two) == {1}
    assert store(manifests=one, step=8) == {1}
    assert store(manifests=one, checkpoint="else") == {1}
    assert store(manifests=one, probe="other") == {4}  # though no line of "guess" tells of it any longer
    assert store(manifests=one) == {5}


def test_settings_and_weights_of_every_seed_are_kept():
    found = layers([60, 60, 50, 51, 52])
    found.layers = (0, 2)
    for some in (found.dev, found.test):
        some[:] = [replace(some[0], chosen={"lr": lr}, weights=[lr, 1 - lr]) for lr in (0.25, 0.75)]
    sides = {key(name, 0): layers([60, 60, 50, 51, 52]) for name in (PRETRAINED, RANDOM)}
    lines = records.lines({**sides, key(WEIGHTED, None): found}, COMMON)
    (line,) = [line for line in lines if line.get("representation") == WEIGHTED]
    assert line["chosen_settings"] == {"lr": [0.25, 0.75]}
    assert line["learned_weights"] == {
        "meaning": "learned weights, not importance",
        "layers": [0, 2],
        "mean": [0.5, 0.5],
        "values": [[0.25, 0.75], [0.75, 0.25]],
    }
    assert not line["chosen"]
    assert not any(
        "learned_weights" in line or "chosen_settings" in line for line in lines if line.get("layer") == 0
    )
