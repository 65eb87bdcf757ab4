"""Verification: whether two utterances are of one class, by the cosine of their embeddings."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from research.data.manifest import Manifest
from research.errors import HarkError


def compare(lists: Sequence[str], test: Manifest, embeddings: Tensor) -> dict[str, dict[str, float]]:
    """List of pairs -> EER and minDCF; `embeddings` (U, E) are those of the test utterances."""
    found = {}
    for path in lists:
        same, pairs = read(Path(path), test)
        one, two = (embeddings[pairs[:, side]] for side in (0, 1))  # (P, E)
        found[path] = {"trials": float(len(same)), **errors(torch.cosine_similarity(one, two, -1), same)}
    return found


def read(path: Path, test: Manifest) -> tuple[Tensor, Tensor]:
    """Read lines `1 one two` (same) or `0 one two` (different), ids or audio paths of test utterances.

    Gives bool (P,) and rows (P, 2). HarkError names the line that is wrong.
    """
    rows: dict[str, int] = {}
    for i in range(len(test)):
        one = test.utterance(i)
        rows |= {one.path: i, one.id: i}
    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise HarkError(f"{path}: this list of trials cannot be read ({error.strerror})") from None
    same, pairs = [], []
    for number, line in enumerate(lines, 1):
        label, *names = line.split()
        if label not in ("0", "1") or len(names) != 2:
            raise HarkError(f"{path}:{number}: a trial reads `1 one two` or `0 one two`")
        found = [rows.get(name, rows.get(str((path.parent / name).absolute()))) for name in names]
        for name, row in zip(names, found, strict=True):
            if row is None:
                raise HarkError(f"{path}:{number}: '{name}' is neither an id nor an audio path in data.test")
        same.append(label == "1")
        pairs.append(found)
    if len(set(same)) < 2:
        raise HarkError(f"{path}: needs trials of both kinds, 1 (same) and 0 (different)")
    return torch.tensor(same), torch.tensor(pairs)


def errors(scores: Tensor, same: Tensor, prior: float = 0.01) -> dict[str, float]:
    """Equal error rate, and the least detection cost at a prior of `same`, normalised (NIST SRE; costs of 1).

    Scores (P,), bool (P,). Trials of equal scores are accepted together.
    """
    values, order = scores.double().sort(descending=True)
    hits = same[order].double()
    last = torch.cat([values[1:] != values[:-1], torch.tensor([True])])  # of each score
    miss = torch.cat([torch.ones(1), (1 - hits.cumsum(0) / hits.sum())[last]])
    false = torch.cat([torch.zeros(1), ((1 - hits).cumsum(0) / (1 - hits).sum())[last]])
    after = int((miss <= false).nonzero()[0])  # the two rates cross between here and the threshold before
    gap = (miss - false)[[after - 1, after]]
    share = gap[0] / (gap[0] - gap[1])
    eer = false[after - 1] + share * (false[after] - false[after - 1])
    cost = (prior * miss + (1 - prior) * false).min() / min(prior, 1 - prior)
    return {"eer": eer.item(), "min_dcf": cost.item()}
