"""Phone segments as points: one vector each, its neighbours in other utterances, and a map of them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from research.downstream import Features
from research.errors import HarkError
from research.nn.grid import Grid

Floats = NDArray[np.float32]
ROUNDING = 1e-6  # of a frame, by which times may miss its centre
SILENCES = ("pau", "sil", "sp", "spn", "")  # no phones


@dataclass(frozen=True)
class Phones:
    """Segments of phones, and their vectors by representation."""

    table: pd.DataFrame  # a row each: utterance (number), start (s), end (s), phone
    vectors: dict[int | str, Floats]  # (P, D), of norm 1

    def only(self, phones: list[str]) -> "Phones":
        """Those of some phones."""
        rows = self.table["phone"].isin(phones).to_numpy()
        vectors = {name: x[rows] for name, x in self.vectors.items()}
        return Phones(self.table[rows].reset_index(drop=True), vectors)


def segments(
    representations: Mapping[int, Features] | Mapping[str, Features], shift: float = Grid.shift
) -> Phones:
    """Mean frame of every phone segment, pauses left out, centred over all segments and scaled to norm 1.

    A frame counts whose centre lies in the segment; where there is none, the frame in whose time the segment's middle
    lies. `shift` moves the labels to later times, as in the probes.
    """
    table = pd.DataFrame(
        [
            (number, start + shift, end + shift, phone)
            for number, found in enumerate(next(iter(representations.values())).segments)
            for start, end, phone in found
            if phone not in SILENCES
        ],
        columns=["utterance", "start", "end", "phone"],
    )
    if table.empty:
        raise HarkError("these utterances have no phone segments; name a manifest that has phones")
    return Phones(table, {name: normal(pooled(x, table)) for name, x in representations.items()})


def pooled(features: Features, table: pd.DataFrame) -> Tensor:
    """One mean frame per row of the table: (P, D)."""
    found = []
    for number, start, end in table[["utterance", "start", "end"]].itertuples(index=False):
        x, period = features.frames[number], features.period  # (T, D)
        first, last = (math.ceil(time / period - 0.5 - ROUNDING) for time in (start, end))
        middle = min(int((start + end) / 2 / period), len(x) - 1)
        found.append(x[first:last].mean(0) if first < min(last, len(x)) else x[middle])
    return torch.stack(found)


def normal(x: Tensor) -> Floats:
    """Centre over rows and scale each to norm 1: (P, D) -> (P, D)."""
    x = x - x.mean(0)
    return (x / x.norm(dim=1, keepdim=True).clamp(min=1e-12)).numpy()


def likeness(phones: Phones, name: int | str) -> Floats:
    """Cosine of every two segments (P, P); -inf where both are of one utterance."""
    x, utterance = phones.vectors[name], phones.table["utterance"].to_numpy()
    return np.where(utterance[:, None] == utterance, -np.inf, x @ x.T)


def neighbours(phones: Phones, name: int | str, row: int, count: int = 5) -> pd.DataFrame:
    """The segments of other utterances that are nearest to one, by cosine."""
    cosine = likeness(phones, name)[row]
    near = np.argsort(-cosine, kind="stable")[:count]
    return phones.table.iloc[near].assign(cosine=cosine[near])


def agreement(phones: Phones, level: float = 0.95) -> pd.DataFrame:
    """By representation, how often a segment's nearest neighbour in another utterance is the same phone.

    Intervals are of the utterances (delete-one jackknife, Student's t), not of another pretraining. `chance` is how often
    a segment of another utterance, taken blindly, is. HarkError: there is one utterance.
    """
    from scipy.stats import t  # noqa: PLC0415  slow to import

    label, utterance = (phones.table[key].to_numpy() for key in ("phone", "utterance"))
    groups = np.unique(utterance)
    if len(groups) < 2:
        raise HarkError("one utterance: neighbours are looked for in others; take more")
    same, other = label[:, None] == label, utterance[:, None] != utterance  # (P, P)
    found = {}
    for name in phones.vectors:
        hit = label[likeness(phones, name).argmax(1)] == label  # (P,)
        without = np.array([hit[utterance != one].mean() for one in groups])
        error = without.std() * (len(groups) - 1) ** 0.5
        reach = float(error * t.ppf(0.5 + level / 2, len(groups) - 1))
        found[name] = {"mean": hit.mean(), "low": hit.mean() - reach, "high": hit.mean() + reach}
    chance = (same & other).sum() / other.sum()
    return pd.DataFrame(found).T.assign(chance=chance).rename_axis("representation")


def commonest(phones: Phones, count: int = 7) -> list[str]:
    """The phones with most segments."""
    return [str(phone) for phone in phones.table["phone"].value_counts().index[:count]]


def tsne(phones: Phones, name: int | str, seed: int = 0) -> pd.DataFrame:
    """t-SNE (van der Maaten and Hinton, 2008) of segments by cosine: the table with columns x and y.

    Neighbourhoods mean something; distances between groups, their sizes and their shapes do not.
    """
    from sklearn.manifold import TSNE  # noqa: PLC0415  slow to import

    x = phones.vectors[name]
    drawn = TSNE(perplexity=min(30.0, (len(x) - 1) / 3), init="pca", random_state=seed).fit_transform(x)
    return phones.table.assign(x=drawn[:, 0], y=drawn[:, 1])
