"""The utterances that health is measured on: the first ones of the run, kept in its folder, the same on every rank."""

from dataclasses import dataclass, field
from io import BytesIO
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from research.contracts import Batch, Seq
from research.engine.weights import read
from research.files import write

FILE = "health.pt"


@dataclass
class Panel:
    batch: Batch  # on the host
    begun: list[Tensor] = field(default_factory=list)  # grams (N, N) of each layer at step 0; none: not known

    def save(self, path: Path) -> None:
        """Write it into a run's folder, whole or not at all."""
        batch = self.batch
        parts = {"audio": batch.audio, "noisy": batch.noisy, "labels": batch.labels}
        held: dict[str, Any] = {name: [seq.x, seq.lengths] for name, seq in parts.items() if seq is not None}
        held |= {"changed": batch.changed, "ids": batch.ids, "texts": batch.texts}
        data = BytesIO()
        torch.save(held | {"begun": [one.half().cpu() for one in self.begun]}, data)
        write(path / FILE, data.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Panel":
        held = read(path / FILE)
        audio, noisy = Seq(*held["audio"]), Seq(*held["noisy"])
        labels = Seq(*held["labels"]) if "labels" in held else None
        batch = Batch(audio, noisy, held["changed"], None, labels, held["ids"], held["texts"])
        return cls(batch, [one.float() for one in held["begun"]])


def some(batch: Batch, samples: int) -> Batch:
    """The first rows of a batch, as many as hold so much audio; at least one. On the host."""
    totals = list(accumulate(batch.audio.lengths.tolist()))
    rows = next((row for row, total in enumerate(totals, 1) if total >= samples), len(totals))

    def cut(seq: Seq) -> Seq:
        lengths = seq.lengths[:rows]
        return Seq(seq.x[:rows, : int(lengths.max())].to("cpu", copy=True), lengths.clone())

    audio = cut(batch.audio)
    noisy = audio if batch.noisy is batch.audio else cut(batch.noisy)
    labels = None if batch.labels is None else cut(batch.labels)
    changed = batch.changed[batch.changed < rows]
    return Batch(audio, noisy, changed, None, labels, batch.ids[:rows], batch.texts[:rows])
