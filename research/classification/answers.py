"""What a trained classifier says about the test utterances: asked once, then read from its record."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from research.classification.config import Labelled
from research.classification.data import Corpus, every
from research.classification.task import Classifier
from research.data.manifest import Manifest
from research.downstream import Answers
from research.errors import HarkError
from research.evaluation import metrics
from research.evaluation.features import evaluating
from research.files import write

SCHEMA = 1


@dataclass
class Record:
    """TEST of one representation under one seed, as tests/<representation>-seed<n>.json holds it."""

    representation: str
    seed: int
    run: str  # folder of the run that `valid` chose
    lr: float
    step: int  # of the checkpoint that `valid` chose
    dev: float  # what it chose by: the lower the better
    manifests: dict[str, str]  # path -> SHA-256
    answers: list[list[int]]  # per test utterance
    weights: list[float] | None = None  # of the layers, where the aggregation has some
    layers: list[int] = field(default_factory=list)
    trials: dict[str, dict[str, float]] = field(default_factory=dict)  # list of pairs -> EER, minDCF
    schema: int = SCHEMA

    def save(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        write(path, json.dumps(asdict(self)))


def recorded(path: Path, corpus: Corpus) -> Record | None:
    """Give what was answered before; HarkError when that was about other manifests."""
    if not path.exists():
        return None
    record = Record(**json.loads(path.read_text()))
    for manifest, digest in corpus.digests.items():
        if record.manifests.get(manifest) != digest:
            raise HarkError(
                f"{manifest}: has changed since {path} was written; the test is read once, so give the new task a "
                "new run.name"
            )
    return record


@torch.no_grad()
def answer(
    task: Classifier, test: Manifest, data: Labelled, *, blank: int, device: torch.device
) -> tuple[list[list[int]], Tensor]:
    """Numbers of the labels that are given to every utterance, and the embeddings (U, E), of frames their mean."""
    found: dict[int, list[int]] = {}
    embeddings: dict[int, Tensor] = {}
    with evaluating(task):
        for loaded in every(test, data):
            assert loaded.batch is not None
            h = task.embed(loaded.batch.audio.to(device))  # (B, U, E)
            best = task.criterion.scores(h).argmax(-1).cpu()  # (B, U)
            for b, row in enumerate(loaded.rows):
                length = int(h.lengths[b])
                said = best[b, :length]
                found[row] = metrics.greedy(said, blank) if task.criterion.frames else said.tolist()
                embeddings[row] = h.x[b, :length].float().mean(0).cpu()
    rows = range(len(test))
    return [found[row] for row in rows], torch.stack([embeddings[row] for row in rows])


def judge(record: Record, corpus: Corpus) -> Answers:
    """Count what was right: with labels the accuracies, with tokens the error rate."""
    if corpus.vocabulary.tokens:
        counts = torch.from_numpy(metrics.edit_counts(corpus.truth, record.answers))  # (U, 2)
        return Answers(counts.double(), error_rate)
    truth = torch.tensor([true[0] for true in corpus.truth])  # (U,)
    said = torch.tensor([answers[0] for answers in record.answers])  # (U,)
    hits = torch.nn.functional.one_hot(truth, len(corpus.vocabulary.names))  # (U, K)
    counts = torch.stack([hits * (said == truth)[:, None], hits], 1)  # (U, 2, K)
    return Answers(counts.double(), accuracies)


def accuracies(counts: Tensor) -> dict[str, Tensor]:  # (R, 2, K) right answers and utterances of each label
    right, there = counts.unbind(1)  # (R, K)
    share = right / there.clamp(min=1)
    return {"acc": right.sum(1) / there.sum(1), "macro_acc": share.sum(1) / (there > 0).sum(1)}


def error_rate(counts: Tensor) -> dict[str, Tensor]:  # (R, 2) edits and tokens
    return {"error_rate": counts[:, 0] / counts[:, 1]}


def confusion(corpus: Corpus, records: Sequence[Record]) -> Tensor:
    """Share of each true label's utterances that is called each label, over all seeds: (K, K), rows are the truth."""
    truth = [true[0] for true in corpus.truth]
    said = [[answers[0] for answers in record.answers] for record in records]
    found = sum(metrics.confusion(truth, one, len(corpus.vocabulary.names)) for one in said)
    counts = torch.as_tensor(found).float()
    return counts / counts.sum(1, keepdim=True).clamp(min=1)
