"""Training, dev and test sentences are apart."""

import json

import pytest

from research.config import Data
from research.data.manifest import load
from research.errors import HarkError
from research.evaluation import splits
from tests.sentences import write_manifest


@pytest.mark.parametrize(("size", "count"), [(164, 100), (60, 38)])
def test_dev_is_apart_and_seeds_draw_different_sentences(size, count):
    drawn = splits.draw(size, 100, 30, 3)
    assert len(drawn.dev) == min(30, size // 5)
    for rows in drawn.train:
        assert len(set(rows)) == len(rows) == count
        assert not set(rows) & set(drawn.dev)
    assert drawn.train[0] != drawn.train[1] != drawn.train[2]
    assert splits.draw(size, 100, 30, 1).train == drawn.train[:1]  # more seeds change no earlier one


def test_dev_with_a_manifest_of_its_own_leaves_all_of_train():
    drawn = splits.draw_beside(50, 90, 100, 30, 2)
    assert drawn.dev == list(range(0, 90, 3))
    assert {len(rows) for rows in drawn.train} == {40}
    assert splits.draw_beside(50, 20, 100, 30, 2).dev == list(range(20))


def test_too_few_sentences_are_refused():
    with pytest.raises(HarkError, match="5 utterances are too few for a probe to choose from"):
        splits.draw(5, 100, 30, 3)
    with pytest.raises(HarkError, match="1 training utterances are too few"):
        splits.draw_beside(1, 9, 100, 30, 3)
    with pytest.raises(HarkError, match="1 utterances are too few for a probe to choose from"):
        splits.draw_beside(9, 1, 100, 30, 3)


def test_utterances_in_two_manifests_are_found(corpus, tmp_path):
    lines = [json.loads(line) for line in (corpus / "phones_test.jsonl").read_text().splitlines()[:4]]
    for line in lines:
        line["audio_filepath"] = str(corpus / line["audio_filepath"])
    cut = {"audio_filepath": lines[2]["audio_filepath"], "duration": 1.0}
    some = [lines[0], lines[1], cut | {"id": "early"}, cut | {"id": "later", "offset": 1.5}]
    others = [
        lines[0] | {"id": "renamed"},
        lines[3] | {"id": lines[1]["id"]},
        cut | {"id": "x", "offset": 0.5},
    ]
    one, two = (write_manifest(tmp_path / f"{i}.jsonl", found) for i, found in enumerate((some, others)))
    found = splits.shared(load([one], Data()), load([two], Data()))
    assert found == [
        lines[0]["id"],
        lines[1]["id"],
        "early",
    ]  # one file, one id, an overlap; 1.5 s is where x ends
