"""Classification tasks on a prepared corpus, with splits that do not let a classifier cheat where that can be helped.

<corpus>/<task>_train.jsonl, <task>_valid.jsonl, <task>_test.jsonl
<corpus>/<task>.json   label, how it was split, what else could tell the labels apart, SHA-256 of the manifests, and
                       `apart`: keys of lines of which no value of the test's is in train or valid
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from research.data.corpora.corpus import Row, Splits, making, totals, write_manifest
from research.data.corpora.splits import place
from research.errors import HarkError
from research.files import write

ENOUGH = 150  # utterances of a voice that is a label
MOST = 300  # utterances of one voice that are used
TEST, VALID = 0.2, 0.1  # shares
ONE_WORD = ("digits", "letters", "phonetic")  # kinds of recordings that hold a word or two
WORDS = 20  # in a split, at least


@dataclass(frozen=True)
class Task:
    label: str
    split: str
    confound: str
    splits: Splits
    apart: tuple[str, ...]


def prepare(corpus: Path) -> Path:
    """Write the tasks that a prepared corpus can hold; HarkError when it can hold none."""
    if not (corpus / "summary.json").exists():
        raise HarkError(
            f"{corpus}: no prepared corpus is here (summary.json is missing); see `hark prepare debspeech`"
        )
    rows = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    found = {"voice": voice(rows), "language": language(rows), "word": word(rows)}
    tasks = {name: task for name, task in found.items() if task}
    if not tasks:
        raise HarkError(
            f"{corpus}: has neither two voices of {ENOUGH} utterances, nor two languages of two sources each, nor "
            "words that two voices of a language say"
        )
    with making(corpus):
        for name, task in tasks.items():
            save(corpus, name, task)
        tell(corpus, tasks)
    return corpus


def voice(rows: Sequence[Row]) -> Task | None:
    """Whose voice it is. What is said in the test, a prompt or a level of a game, no voice says in training."""
    by = {name: some for name, some in grouped(rows, "speaker").items() if len(some) >= ENOUGH}
    if len(by) < 2:
        return None
    splits: Splits = {"train": [], "valid": [], "test": []}
    for some in by.values():
        for row in sorted(some, key=place)[:MOST]:
            splits[part_of(topic(row))].append(row | {"topic": topic(row)})
    return Task(
        "speaker",
        "by prompt or level of a game: no voice says in training what any says in the test",
        "every voice was recorded in one place, and few places hold two voices: the channel may tell voices apart, so "
        "this is voice/source id",
        splits,
        ("topic",),
    )


def language(rows: Sequence[Row]) -> Task | None:
    """Which language it is, from voices and sources that training has not heard."""
    splits: Splits = {"train": [], "valid": [], "test": []}
    for _, of_language in sorted(grouped(rows, "lang").items()):
        sources = sorted(grouped(of_language, "source").values(), key=kind)
        known = {row["speaker"] for row in sources[0]}
        unheard = [row for some in sources[1:] for row in some if row["speaker"] not in known]
        if not unheard:
            continue
        for row in sorted(sources[0], key=place)[:MOST]:
            splits["valid" if place({"id": f"valid {row['id']}"}) < VALID else "train"].append(row)
        for some in grouped(unheard, "speaker").values():
            splits["test"] += sorted(some, key=place)[:MOST]
    for key in ("speaker", "source"):  # of any language
        heard = {row[key] for row in splits["train"] + splits["valid"]}
        splits["test"] = [row for row in splits["test"] if row[key] not in heard]
    if len({row["lang"] for row in splits["test"]}) < 2:
        return None
    return Task(
        "lang",
        "by source: no voice and no source of the test is in training or valid",
        "training has one voice in each language, so a classifier may learn voices and channels instead; valid has the "
        "voices of training and is no guide to the test",
        splits,
        ("speaker", "source"),
    )


def word(rows: Sequence[Row]) -> Task | None:
    """Which word it is, where several voices of a language say the same; a word is on one side in every language."""
    splits: Splits = {"train": [], "valid": [], "test": []}
    for language, of_language in sorted(grouped(rows, "lang").items()):
        short = [row for row in of_language if row.get("kind") in ONE_WORD]
        for name, some in sorted(grouped(short, "word").items()):
            if len(grouped(some, "speaker")) > 1:
                share = place({"id": name})
                side = "test" if share < 2 * TEST else "valid" if share < 2 * (TEST + VALID) else "train"
                splits[side] += [row | {"item": f"{language}/{name}"} for row in sorted(some, key=place)]
    if min(len({row["item"] for row in some}) for some in splits.values()) < WORDS:
        return None
    return Task(
        "item",
        "by word, in all languages alike: nothing that is said in the test is said in training or valid",
        "every voice has a channel of its own, and few voices say each word: to find a word across voices is to hear "
        "past both; all voices are heard in training",
        splits,
        ("word",),
    )


def kind(rows: Sequence[Row]) -> tuple[bool, int]:
    """Sort prompts before sentences and dialogues, so that training hears one kind of recording in most languages."""
    return any(row.get("kind") in ("sentence", "dialog") for row in rows), -len(rows)


def grouped(rows: Sequence[Row], key: str) -> dict[str, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        if row.get(key):
            found[row[key]].append(row)
    return dict(found)


def topic(row: Row) -> str:
    """What an utterance shares with others that should be on the same side: its level, or its prompt."""
    word = str(row.get("word") or row["id"])
    return word.split("/", 1)[0] if row.get("kind") == "dialog" else word


def part_of(name: str) -> str:
    share = place({"id": name})
    return "test" if share < TEST else "valid" if share < TEST + VALID else "train"


def save(corpus: Path, name: str, task: Task) -> None:
    digests = {}
    for split, rows in task.splits.items():
        path = corpus / f"{name}_{split}.jsonl"
        write_manifest(path, rows)
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    told = {"label": task.label, "split": task.split, "apart": task.apart, "confound": task.confound}
    facts = {**told, "sha256": digests}
    write(corpus / f"{name}.json", json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


def tell(corpus: Path, tasks: Mapping[str, Task]) -> None:
    """Add the tasks to the summary."""
    summary = json.loads((corpus / "summary.json").read_text())
    for name, task in tasks.items():
        summary["splits"] |= {f"{name}_{split}": totals(rows) for split, rows in task.splits.items()}
    summary["notes"] = list(dict.fromkeys([*summary["notes"], *notes(tasks)]))
    write(corpus / "summary.json", json.dumps(summary, ensure_ascii=False, indent=1) + "\n")


def notes(tasks: Mapping[str, Task]) -> Iterator[str]:
    for name, task in tasks.items():
        yield f"{name}: label={task.label}, split {task.split}"
        yield f"{name}: confound: {task.confound}"
