"""What is written down of probes."""

import pytest

from research import runs
from research.evaluation import records
from research.evaluation.records import PRETRAINED, RANDOM, Found, Key, Setting
from tests.sentences import answers

COMMON = Setting(checkpoint="run", step=7, train=3, dev=2, test=3, seen=0, manifests={})


def key(representation, layer, period=0.08):
    return Key("guess", representation, layer, period)


def layers(dev_and_test):
    """Two seeds that agree: layer -> right answers of 2 dev and 3 test utterances."""
    dev, test = answers(*dev_and_test[:2]), answers(*dev_and_test[2:])
    return Found([dev, dev], [test, test], [30, 30], 30)


def found_lines():
    found = {
        key("log_mel", None, 0.01): layers([50, 50, 50, 51, 52]),
        key(PRETRAINED, 0): layers([60, 60, 50, 51, 52]),
        key(PRETRAINED, 1): layers([55, 55, 90, 91, 92]),  # better on the test: not to be chosen for that
        key(RANDOM, 0): layers([40, 40, 40, 41, 42]),
        key(RANDOM, 1): layers([41, 41, 30, 31, 32]),
    }
    return records.lines(found, COMMON)


def test_the_dev_utterances_choose_the_layer():
    lines = found_lines()
    assert [(s["representation"], s["layer"]) for s in lines if s.get("chosen")] == [
        (PRETRAINED, 0),
        (RANDOM, 1),
    ]
    scores = {(s["representation"], s["layer"]): s for s in lines if s["kind"] == "score"}
    assert scores[PRETRAINED, 0]["mean"] == pytest.approx(0.51)
    assert scores[PRETRAINED, 0]["dev"] == pytest.approx([0.6, 0.6])


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
    written = list(runs.read_jsonl(path))
    assert len(written) == 3 * len(lines)
    again = [line for line in written if "again" in line]
    assert [(line["step"], line["probe"]) for line in again] == [(7, "guess")] * len(lines)
    assert [line | {"again": 1} for line in lines] == again
