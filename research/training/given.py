"""What lines of a manifest give beside audio, for a task that wants it: ids of frames, texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from research.contracts import Batch, Objective, Seq, Task
from research.data.audio import UndecodableError
from research.data.features import read_labels
from research.data.manifest import Manifest
from research.errors import HarkError


@dataclass(frozen=True)
class Given:
    """Reads what a task wants."""

    wants: tuple[str, ...] = ()
    classes: int = 0  # that labels are below

    @classmethod
    def of(cls, task: Task) -> "Given":
        return cls(task.wants, task.classes)

    def check(self, speech: Manifest) -> None:
        """HarkError when a line has no text, or the first of a manifest names no labels that can be used."""
        if not self.wants:
            return
        if "text" in self.wants:
            for row in range(len(speech)):
                self.text(speech, row)
        nothing = Batch.clean(Seq(torch.zeros(1, 1), torch.tensor([1])))
        _, first = np.unique(speech.rows["source"], return_index=True)
        for row in first.tolist():
            self.fill(nothing, speech, [row])

    def fill(self, batch: Batch, speech: Manifest, rows: Sequence[int]) -> None:
        """Put what is wanted of some lines into their batch; HarkError names the line that lacks it."""
        if "labels" in self.wants:
            found = [self.labels(speech, row) for row in rows]  # (U_i, 1) each
            lengths = torch.tensor([len(one) for one in found])  # (B,)
            batch.labels = Seq(pad_sequence(found, batch_first=True), lengths)  # (B, U, 1)
        if "text" in self.wants:
            batch.texts = [self.text(speech, row) for row in rows]

    def text(self, speech: Manifest, row: int) -> str:
        """What was said in an utterance; "" where nobody wrote it down."""
        text = speech.extra(row).get("text")  # noqa: S610  not Django's
        if not isinstance(text, str):
            raise HarkError(
                f"{speech.where(row)}: text is {text!r}, and this objective learns what was said; write it there, or "
                '"text": "" for an utterance that nobody wrote down'
            )
        return text

    def labels(self, speech: Manifest, row: int) -> Tensor:
        """Ids of an utterance's frames, (U, 1)."""
        line, where = speech.extra(row), speech.where(row)  # noqa: S610  not Django's
        if missing := [key for key in ("label_path", "label_key") if key not in line]:
            raise HarkError(
                f"{where}: has no {missing[0]}, and this objective learns from labels of frames; type `hark extract RUN "
                f"{where.rsplit(':', 1)[0]} --out LABELS --layers none --kmeans {self.classes} --kmeans-layer L` and train "
                "on LABELS/labels.jsonl"
            )
        try:
            ids = read_labels(line, speech.folder(row))  # (U, 1)
        except UndecodableError as error:
            raise HarkError(f"{where}: {error}; extract the labels again") from None
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < self.classes:
            raise HarkError(
                f"{where}: label_key={line['label_key']} holds the id {int(ids.max())}, but objective.codes={self.classes}; "
                "type objective.codes=K with the K of `hark extract --kmeans K`"
            )
        return ids


NOTHING = Given()


def stand_in(batch: Batch, task: Task) -> Batch:
    """Give a batch that is of no lines what the task wants of them: zeros for ids of frames, no text."""
    if "text" in task.wants:
        batch.texts = [""] * len(batch.audio.lengths)
    if "labels" in task.wants and isinstance(task, Objective):
        hop = task.frontend.hop * task.encoder.stride  # samples
        frames = batch.audio.lengths // hop  # (B,) within one of the encoder's
        size = max(1, int(frames.max()))
        zeros = torch.zeros(len(frames), size, 1, dtype=torch.long, device=batch.audio.x.device)  # (B, T, 1)
        batch.labels = Seq(zeros, frames.clamp(min=1))
    return batch
