"""What else could tell the labels apart: said below every table, because a score does not say it."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from research.classification.data import Corpus
from research.data.manifest import Manifest

KNOWN = {
    key: f"{key}: each voice was recorded in one place, so the channel may tell voices apart: call it voice/source id"
    for key in ("speaker", "source", "voice")
}
GIVEAWAYS = ("speaker", "source")  # keys of what a label should not be told by


def confounds(corpus: Corpus, given: str) -> list[str]:
    """What is given on the command line and beside the manifests, what is known of the label, and what is counted."""
    told = [beside(source.path) for source in corpus.train.sources]
    known = "" if any(told) else KNOWN.get(corpus.vocabulary.key, "")
    found = [given, *told, known, *counted(corpus)]
    return list(dict.fromkeys(filter(None, found)))


def beside(manifest: Path) -> str:
    """What TASK.json says of TASK_train.jsonl, as `hark prepare tasks` writes them."""
    path = manifest.with_name(f"{manifest.stem.removesuffix('_train')}.json")
    if not manifest.stem.endswith("_train") or not path.exists():
        return ""
    known: str = json.loads(path.read_text()).get("confound", "")
    return known


def counted(corpus: Corpus) -> Iterator[str]:
    label = corpus.vocabulary.key
    for key in GIVEAWAYS:
        heard = values(corpus.train, key)
        if key == label or corpus.vocabulary.tokens or not any(heard):
            continue
        asked, voices = values(corpus.test, key), set(heard)
        known = sum(value in voices for value in asked)
        yield f"{known} of {len(asked)} test utterances are of a {key} that training heard"
        labels = defaultdict(set)
        for value, name in zip(heard, values(corpus.train, label), strict=True):
            labels[value].add(name)
        if known and all(len(names) == 1 for names in labels.values()):
            yield f"in training each {key} has one {label}: whoever tells the {key} apart knows the {label}"


def values(manifest: Manifest, key: str) -> list[str]:
    return [str(manifest.extra(i).get(key) or "") for i in range(len(manifest))]  # noqa: S610  not Django's
