"""A small task on real speech, and `hark classify` on it in this process."""

import json

from research.classification import command
from research.classification.answers import Record
from tests.origins import make_run
from tests.sentences import write_manifest

QUICK = (
    "seeds=2", "head.dim=8", "train.steps=4", "train.validate_every=2", "checkpoint.every=2", "data.batch_seconds=8",
    "data.buckets=2", "data.workers=0", "run.device=cpu", "train.log_every=2",
)  # fmt: skip


def make_task(corpus, folder):
    """Write a tiny run, and short utterances of three sources: 8 to train on, 3 to choose with, 4 to test, of each."""
    lines = [json.loads(line) for line in (corpus / "manifest.jsonl").read_text().splitlines()]
    found = {}
    for line in lines:
        if 0.5 < line["duration"] < 2.0:
            line["audio_filepath"] = str(corpus / line["audio_filepath"])
            found.setdefault(line["speaker"], []).append(line)
    voices = sorted(found, key=lambda name: -len(found[name]))[:3]
    for split, (first, last) in {"train": (0, 8), "valid": (8, 11), "test": (11, 15)}.items():
        some = [line for voice in voices for line in found[voice][first:last]]
        write_manifest(folder / f"{split}.jsonl", some)
    pairs = [(a, b) for a in range(12) for b in range(a)]
    ids = [
        line["id"] for line in (json.loads(row) for row in (folder / "test.jsonl").read_text().splitlines())
    ]
    trials = [f"{int(a // 4 == b // 4)} {ids[a]} {ids[b]}\n" for a, b in pairs]
    (folder / "trials.txt").write_text("".join(trials))
    return folder, make_run(folder / "runs")


def typed(task, folder, *overrides):
    data, upstream = task
    return [
        f"upstream={upstream}", "label=speaker", f"run.folder={folder}", *QUICK,
        *(f"data.{split}=[{data / split}.jsonl]" for split in ("train", "valid", "test")), *overrides,
    ]  # fmt: skip


def classify(task, folder, *overrides):
    assert command.run(typed(task, folder, *overrides)) == 0
    (path,) = folder.iterdir()
    return path


def records(path):
    return {file.stem: Record(**json.loads(file.read_text())) for file in sorted(path.glob("tests/*.json"))}
