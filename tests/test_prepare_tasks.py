"""`hark prepare tasks`: splits in which what is asked was not heard."""

import hashlib
import json

import pytest

from research.cli import main
from research.data.corpora import tasks
from research.errors import HarkError

VOICES = {  # speaker -> language, source, kind
    "ann": ("en", "prompts-en", "prompt"),
    "bea": ("es", "prompts-es", "prompt"),
    "col": ("es", "book-es", "sentence"),
    "dan": ("it", "prompts-it", "prompt"),
    "eva": ("it", "game-it", "dialog"),
    "few": ("it", "game-it", "dialog"),
}


def rows(count=200):
    found = []
    for speaker, (lang, source, kind) in VOICES.items():
        for k in range(20 if speaker == "few" else count):
            word = f"level{k % 12}/line{k}" if kind == "dialog" else f"word{k}"
            line = {
                "id": f"{speaker}-{k}",
                "audio_filepath": f"{source}/{speaker}{k}.flac",
                "duration": 1.0 + k % 3,
            }
            found.append(
                line | {"lang": lang, "speaker": speaker, "source": source, "kind": kind, "word": word}
            )
    return found


@pytest.fixture
def corpus(tmp_path):
    write(tmp_path, rows())
    return tmp_path


def write(folder, lines):
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {"utterances": len(lines), "minutes": 1.0, "splits": {}, "dropped": {}, "notes": []}
    (folder / "summary.json").write_text(json.dumps(summary))


def read(corpus, task):
    paths = {split: corpus / f"{task}_{split}.jsonl" for split in ("train", "valid", "test")}
    return {
        split: [json.loads(line) for line in path.read_text().splitlines()] for split, path in paths.items()
    }


def of(lines, key):
    return {line[key] for line in lines}


def test_the_language_test_holds_no_voice_and_no_source_of_training(corpus):
    tasks.prepare(corpus)
    splits = read(corpus, "language")
    heard = splits["train"] + splits["valid"]
    for key in ("speaker", "source", "id"):
        assert not of(heard, key) & of(splits["test"], key)
    assert of(heard, "lang") == of(splits["test"], "lang") == {"es", "it"}  # English has one source
    assert of(heard, "source") == {"prompts-es", "prompts-it"}


def test_the_voice_test_asks_for_what_no_voice_said_in_training(corpus):
    tasks.prepare(corpus)
    splits = read(corpus, "voice")
    assert of(splits["train"], "speaker") == of(splits["test"], "speaker") == VOICES.keys() - {"few"}
    topics = {split: {tasks.topic(line) for line in lines} for split, lines in splits.items()}
    assert not topics["test"] & (topics["train"] | topics["valid"])
    assert not topics["train"] & topics["valid"]


def test_a_word_is_asked_across_voices_and_taught_in_no_language(corpus):
    found = rows(60)
    for speaker, language in (("ann", "en"), ("bea", "es"), ("col", "es"), ("dan", "it"), ("eva", "it")):
        for k in range(200):
            line = {"id": f"{speaker}-digit-{k}", "audio_filepath": f"{speaker}/{k}.flac", "duration": 0.5}
            about = {"lang": language, "speaker": speaker, "source": speaker, "kind": "digits"}
            found.append(line | about | {"word": f"digits/{k}"})
    write(corpus, found)
    tasks.prepare(corpus)
    splits = read(corpus, "word")
    assert all(of(lines, "lang") == {"es", "it"} for lines in splits.values())  # English has one voice
    assert {split: len(of(lines, "item")) for split, lines in splits.items()} == {
        split: len(lines) / 2 for split, lines in splits.items()
    }  # two voices each
    said = {split: of(lines, "word") for split, lines in splits.items()}
    assert not said["test"] & (said["train"] | said["valid"])
    assert not said["train"] & said["valid"]
    assert json.loads((corpus / "word.json").read_text())["label"] == "item"


def test_facts_are_written_beside_the_manifests(corpus):
    tasks.prepare(corpus)
    facts = json.loads((corpus / "language.json").read_text())
    assert facts["label"] == "lang"
    assert facts["confound"]
    for task in ("voice", "language"):
        splits = read(corpus, task)
        for key in json.loads((corpus / f"{task}.json").read_text())["apart"]:
            assert of(splits["test"], key)
            assert not of(splits["test"], key) & (of(splits["train"], key) | of(splits["valid"], key))
    for name, digest in facts["sha256"].items():
        assert hashlib.sha256((corpus / name).read_bytes()).hexdigest() == digest
    summary = json.loads((corpus / "summary.json").read_text())
    assert summary["splits"]["voice_test"]["utterances"] == len(read(corpus, "voice")["test"])
    tasks.prepare(corpus)
    assert json.loads((corpus / "summary.json").read_text()) == summary


def test_the_order_of_the_manifest_plays_no_part(corpus):
    tasks.prepare(corpus)
    first = {task: read(corpus, task) for task in ("voice", "language")}
    write(corpus, rows()[::-1])
    tasks.prepare(corpus)
    for task, splits in first.items():
        again = read(corpus, task)
        assert all(of(splits[split], "id") == of(again[split], "id") for split in splits)


def test_what_cannot_be_is_said_in_one_line(tmp_path, capsys):
    assert main(["prepare", "tasks", str(tmp_path)]) == 2
    assert "no prepared corpus is here" in capsys.readouterr().err
    write(tmp_path, rows(5)[:5])
    with pytest.raises(HarkError, match="has neither two voices of 150 utterances, nor two languages"):
        tasks.prepare(tmp_path)
