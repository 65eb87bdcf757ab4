"""What layers make of labelled speech, and how alike they are: one another, and what they were before training."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from research import registry
from research.analysis.look import Opened, manifest_of
from research.data.manifest import load
from research.downstream import Features
from research.errors import HarkError
from research.evaluation.features import encode, frontend_features, stacked
from research.evaluation.speech import Speech, decode
from research.model import Upstream
from research.nn import health

Layers = Mapping[int, Features]  # 0 is what the first block reads
PHONES = "phones_test.jsonl"


def speech_of(opened: Opened, count: int = 20, manifest: str | Path | None = None) -> Speech:
    """Read utterances with phone times, evenly chosen: of `manifest`, or of phones_test.jsonl beside the run's data.

    HarkError: there is none; a line has no phones.
    """
    data = opened.config.data
    if manifest is None:
        beside = Path(data.train[0] if data.train else "unknown").parent
        manifest = manifest_of(opened.path, beside / PHONES)
    found = load([manifest], data)
    rows = np.linspace(0, len(found) - 1, min(count, len(found))).astype(int).tolist()
    speech = Speech(labels={"": []})  # phones are asked for
    for row in rows:
        decode(found, row, data.sample_rate, speech)
    return speech


def states(opened: Opened, speech: Speech) -> dict[int, Features]:
    """What every layer makes of utterances, frozen: frames (T, D) of each."""
    return encode(Upstream(opened.objective.frontend, opened.objective.encoder), speech)


def log_mel(opened: Opened, speech: Speech) -> Features:
    """What log-mel makes of the same utterances, stacked to the period of the encoder's frames: a level to beat."""
    frontend = registry.build(registry.config_of("frontend", "log_mel"))
    own = frontend_features(frontend, speech)
    upstream = Upstream(opened.objective.frontend, opened.objective.encoder)
    return stacked(own, max(1, round(upstream.period / own.period)))


def frames_of(features: Features, count: int) -> Tensor:
    """Frames evenly chosen from all utterances: (N, D)."""
    x = torch.cat(features.frames)  # (all, D)
    return x[torch.linspace(0, len(x) - 1, min(count, len(x))).long()]


def similarities(one: Layers, other: Layers, frames: int = 1000) -> pd.DataFrame:
    """Linear CKA (arXiv 1905.00414) of every layer of `one` (rows) with every layer of `other` (columns), 0 to 1.

    Both have to be of the same utterances. HarkError: they have other numbers of frames.
    """
    sizes = {sum(map(len, features.frames)) for layers in (one, other) for features in layers.values()}
    if len(sizes) > 1:
        raise HarkError(f"{len(sizes)} numbers of frames: CKA compares representations of the same frames")
    rows = {layer: health.gram(frames_of(features, frames)) for layer, features in one.items()}
    columns = rows if other is one else {k: health.gram(frames_of(x, frames)) for k, x in other.items()}
    table = [[float(health.cka(a, b)) for b in columns.values()] for a in rows.values()]
    return pd.DataFrame(table, index=pd.Index(rows, name="layer"), columns=pd.Index(columns, name="layer"))


def effective_ranks(layers: Layers, frames: int = 1000) -> pd.Series:
    """RankMe (arXiv 2210.02885) of every layer: how many directions its frames take, from 1 to D."""
    found = {layer: float(health.rankme(frames_of(features, frames))) for layer, features in layers.items()}
    return pd.Series(found, name="rankme").rename_axis("layer")
