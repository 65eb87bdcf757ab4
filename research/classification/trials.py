"""Verification: whether two utterances are of one class, by the cosine of their embeddings."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from research.data.manifest import Manifest
from research.errors import HarkError
from research.evaluation import metrics


def compare(lists: Sequence[str], test: Manifest, embeddings: Tensor) -> dict[str, dict[str, float]]:
    """List of pairs -> EER and minDCF; `embeddings` (U, E) are those of the test utterances."""
    found = {}
    for path in lists:
        same, pairs = read(Path(path), test)
        scores = metrics.score_trials(embeddings, pairs)  # (P,)
        found[path] = {
            "trials": len(same),
            "eer": metrics.eer(scores, same),
            "min_dcf": metrics.min_dcf(scores, same),
        }
    return found


def read(path: Path, test: Manifest) -> tuple[list[bool], list[list[int]]]:
    """Read lines `1 one two` (same) or `0 one two` (different), ids or audio paths of test utterances.

    Gives which are the same (P,) and rows (P, 2). HarkError names the line that is wrong.
    """
    rows: dict[str, int] = {}
    for i in range(len(test)):
        one = test.utterance(i)
        rows |= {one.path: i, one.id: i}

    def place(name: str) -> str:
        return name if name in rows else str((path.parent / name).absolute())

    try:
        lines = path.read_text().splitlines()
    except OSError as error:
        raise HarkError(f"{path}: this list of trials cannot be read ({error.strerror})") from None
    same: list[bool] = []
    pairs: list[list[int]] = []
    for number, line in enumerate(lines, 1):
        label, *names = line.split() or [""]
        if label not in ("0", "1") or len(names) != 2:
            raise HarkError(f"{path}:{number}: a trial reads `1 one two` or `0 one two`")
        for name in names:
            if place(name) not in rows:
                raise HarkError(f"{path}:{number}: '{name}' is neither an id nor an audio path in data.test")
        same.append(label == "1")
        pairs.append([rows[place(name)] for name in names])
    if len(set(same)) < 2:
        raise HarkError(f"{path}: needs trials of both kinds, 1 (same) and 0 (different)")
    return same, pairs
