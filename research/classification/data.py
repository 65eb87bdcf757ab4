"""The utterances of a task with their labels."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from research.classification.config import Classification, Labelled
from research.classification.labels import Vocabulary
from research.config import Training
from research.data.loader import Loaded, Loader
from research.data.manifest import Manifest, load
from research.data.plan import held_out, in_order
from research.data.stream import once
from research.engine.gangs import Ranks
from research.errors import HarkError
from research.evaluation.splits import digests, shared
from research.training.data import Planned, one_by_one, reader


@dataclass(frozen=True)
class Corpus:
    """The manifests of a task, and what they say."""

    train: Manifest
    valid: Manifest
    test: Manifest
    vocabulary: Vocabulary
    truth: list[list[int]]  # labels of the test utterances

    @property
    def digests(self) -> dict[str, str]:
        return digests(self.train, self.valid, self.test)


def open_corpus(cfg: Classification, ranks: Ranks, *, tokens: bool) -> Corpus:
    """Load and check everything before anything is computed.

    HarkError: a split is not named; a line has no label, or one that training has not; test or valid share an
    utterance with what comes before them.
    """
    for split in ("train", "valid", "test"):
        if not getattr(cfg.data, split):
            raise HarkError(f"data.{split} names no manifest: type data.{split}=[path/to/{split}.jsonl]")
    train, valid, test = (
        one_by_one(ranks, lambda paths=paths: load(paths, cfg.data))  # type: ignore[misc]
        for paths in (cfg.data.train, cfg.data.valid, cfg.data.test)
    )
    for name, asked, others in (("valid", valid, train), ("test", test, train), ("test", test, valid)):
        if leaked := shared(asked, others):
            raise HarkError(
                f"data.{name}: {len(leaked)} utterances are in {others.sources[0].path} too, the first is '{leaked[0]}'; "
                "leave them out"
            )
    vocabulary = Vocabulary.of(train, cfg.label, tokens=tokens)
    vocabulary.check(valid)
    return Corpus(train, valid, test, vocabulary, vocabulary.check(test))


class Supervised(Planned):
    """What the loop reads: batches with labels."""

    def __init__(self, cfg: Training, ranks: Ranks, vocabulary: Vocabulary) -> None:
        super().__init__(cfg, ranks)
        self.vocabulary = vocabulary

    def label(self, loaded: Loaded, speech: Manifest) -> Loaded:
        if loaded.batch is not None:
            loaded.batch.labels = self.vocabulary.batch(speech, loaded.rows)
        return loaded

    def summary(self) -> str:
        hours = self.speech.durations.sum() / 3600
        return f"{len(self.speech):,} utterances, {hours:.2f} h, {len(self.vocabulary.names)} labels"


def every(manifest: Manifest, data: Labelled) -> Iterator[Loaded]:
    """Read all utterances of a manifest once; HarkError when one of them cannot be."""
    items = in_order(manifest.durations, *held_out(manifest.durations, data))
    for loaded in once(Loader(manifest, None, data, seed=0), items, reader(data.reader)):
        for reason in loaded.bad:
            raise HarkError(f"{reason}: mend or remove this line; every utterance of data.test is scored")
        yield loaded


def majority(corpus: Corpus) -> float:
    """Accuracy on the test of always giving the commonest label of training."""
    names = [corpus.vocabulary.encode(corpus.train, i)[0] for i in range(len(corpus.train))]
    commonest = torch.tensor(names).mode().values.item()
    return sum(labels[0] == commonest for labels in corpus.truth) / len(corpus.truth)
