"""Labels out of manifests: numbered by training, and named where they are wrong."""

import json

import pytest
import soundfile

from research.classification.labels import Vocabulary
from research.config import Data
from research.data.manifest import load
from research.errors import HarkError
from tests.sounds import RATE, signal_of


@pytest.fixture
def manifest(tmp_path):
    """Write lines with some keys; give the loaded manifest."""
    soundfile.write(tmp_path / "a.wav", signal_of(1.0, RATE), RATE)

    def write(name, *lines):
        path = tmp_path / f"{name}.jsonl"
        common = {"audio_filepath": "a.wav", "duration": 0.1}
        rows = [common | {"id": f"{name}{i}", "offset": 0.1 * i} | line for i, line in enumerate(lines)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return load([path], Data())

    return write


def test_labels_are_numbered_by_the_sorted_names_of_training(manifest):
    train = manifest("train", {"lang": "nl"}, {"lang": "cs"}, {"lang": "nl"})
    vocabulary = Vocabulary.of(train, "lang", tokens=False)
    assert vocabulary.names == ["cs", "nl"]
    labels = vocabulary.batch(train, [2, 1])
    assert labels.x.tolist() == [[[1]], [[0]]]
    assert labels.lengths.tolist() == [1, 1]


@pytest.mark.parametrize("text", ["abba", ["a", "b", "b", "a"]])
def test_tokens_are_characters_of_a_text_or_the_items_of_a_list(manifest, text):
    train = manifest("train", {"text": text}, {"text": text[:2]})
    labels = Vocabulary.of(train, "text", tokens=True).batch(train, [0, 1])
    assert labels.x[..., 0].tolist() == [[0, 1, 1, 0], [0, 1, 0, 0]]
    assert labels.lengths.tolist() == [4, 2]


@pytest.mark.parametrize("line", [{"speaker": "x"}, {"lang": ""}, {"lang": None}])
def test_a_line_without_the_label_is_named(manifest, line):
    with pytest.raises(HarkError, match=r"train\.jsonl:2: has no lang, which label=lang asks for"):
        Vocabulary.of(manifest("train", {"lang": "cs"}, line), "lang", tokens=False)


def test_a_label_that_training_has_not_is_named(manifest):
    vocabulary = Vocabulary.of(manifest("train", {"lang": "cs"}, {"lang": "nl"}), "lang", tokens=False)
    with pytest.raises(HarkError, match=r"test\.jsonl:2: lang 'ru' occurs in no line of data\.train"):
        vocabulary.check(manifest("test", {"lang": "cs"}, {"lang": "ru"}))


def test_one_label_is_nothing_to_learn(manifest):
    with pytest.raises(HarkError, match="nothing to learn"):
        Vocabulary.of(manifest("train", {"lang": "cs"}, {"lang": "cs"}), "lang", tokens=False)
