"""Metrics of downstream tasks, from arrays on the host. Shares, not percent."""

from collections.abc import Hashable, Sequence

import editdistance
import numpy as np
from numpy.typing import ArrayLike, NDArray

from research.errors import HarkError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def error_tradeoff(scores: ArrayLike, same: ArrayLike) -> tuple[Floats, Floats]:
    """Misses and false alarms at every threshold, from the highest down: (P,), (P,) -> (R,), (R,).

    A pair is accepted when its score reaches the threshold; `same` is true where it should be. HarkError: nothing to
    accept, nothing to reject, or a score that is no number.
    """
    from sklearn.metrics import roc_curve  # noqa: PLC0415  heavy

    value, right = np.asarray(scores, np.float64), np.asarray(same, bool)
    if not np.isfinite(value).all():
        raise HarkError(f"trials: {int((~np.isfinite(value)).sum())} of {len(value)} scores are not finite")
    if right.all() or not right.any():
        raise HarkError(
            f"trials: {int(right.sum())} of {len(right)} pairs are the same; both kinds are needed"
        )
    false_alarms, hits, _ = roc_curve(right, value, drop_intermediate=False)
    return 1 - hits, false_alarms


def eer(scores: ArrayLike, same: ArrayLike) -> float:
    """Equal error rate: where misses and false alarms meet, between two thresholds by linear interpolation."""
    misses, false_alarms = error_tradeoff(scores, same)
    gap = misses - false_alarms  # from 1 down to -1
    after = int(np.argmax(gap <= 0))
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(misses[after - 1] + share * (misses[after] - misses[after - 1]))


def min_dcf(
    scores: ArrayLike, same: ArrayLike, *, p_target: float = 0.01, c_miss: float = 1.0, c_fa: float = 1.0
) -> float:
    """Least detection cost over thresholds, as a share of that of the better constant answer (NIST SRE).

    Cost of a miss times the prior `p_target`, and of a false alarm times the rest.
    """
    misses, false_alarms = error_tradeoff(scores, same)
    miss, alarm = c_miss * p_target, c_fa * (1 - p_target)
    return float((miss * misses + alarm * false_alarms).min() / min(miss, alarm))


def score_trials(embeddings: ArrayLike, pairs: ArrayLike) -> Floats:
    """Cosine of the two embeddings of every trial: (N, E), row numbers (P, 2) -> (P,)."""
    vectors = np.asarray(embeddings, np.float64)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    first, second = np.asarray(pairs, np.int64).T  # (P,) each
    return np.einsum("pe,pe->p", vectors[first], vectors[second])


def all_trials(labels: Sequence[Hashable]) -> tuple[Ints, NDArray[np.bool_]]:
    """Every pair of two utterances, and whether they have the same label: (N,) -> (P, 2), (P,)."""
    first, second = np.triu_indices(len(labels), 1)  # (P,) each
    numbers = {label: k for k, label in enumerate(dict.fromkeys(labels))}
    ids = np.array([numbers[label] for label in labels], np.int64)  # (N,)
    return np.stack([first, second], 1), ids[first] == ids[second]


def edits(reference: Sequence[Hashable], answer: Sequence[Hashable]) -> int:
    """Insertions, deletions and substitutions that make the answer of the reference (Levenshtein)."""
    return int(editdistance.eval(reference, answer))


def edit_counts(
    references: Sequence[Sequence[Hashable]], answers: Sequence[Sequence[Hashable]]
) -> NDArray[np.int64]:
    """Edits and reference tokens of every utterance (U, 2): summands for intervals."""
    pairs = zip(references, answers, strict=True)
    return np.array([(edits(ref, out), len(ref)) for ref, out in pairs], np.int64).reshape(-1, 2)


def error_rate(references: Sequence[Sequence[Hashable]], answers: Sequence[Sequence[Hashable]]) -> float:
    """Edits per reference token, over all utterances together: PER of lists of phones, CER of strings.

    It can exceed 1. HarkError: the references hold no token.
    """
    wrong, tokens = edit_counts(references, answers).sum(0)
    if tokens == 0:
        raise HarkError("references: not one token to compare with")
    return float(wrong / tokens)


def greedy(best: ArrayLike, blank: int) -> list[int]:
    """Best class of every frame (T,) -> labels: repetitions become one, then blanks are left out (CTC)."""
    path = np.asarray(best, np.int64)
    starts = np.diff(path, prepend=-1) != 0  # (T,)
    return [int(label) for label in path[starts] if label != blank]


def confusion(labels: ArrayLike, answers: ArrayLike, classes: int) -> Ints:
    """How often label i (row) was answered by j (column): (U,), (U,) -> (K, K)."""
    flat = np.asarray(labels, np.int64) * classes + np.asarray(answers, np.int64)
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes).astype(np.int64)


def accuracy(counts: Ints) -> float:
    """Micro accuracy: the share of right answers in a confusion matrix (K, K)."""
    return float(np.trace(counts) / max(1, counts.sum()))


def macro_accuracy(counts: Ints) -> float:
    """Mean over the classes that occurred of the share that was answered right: (K, K) -> number."""
    occurrences = counts.sum(1)  # (K,)
    seen = occurrences > 0
    return float((np.diag(counts)[seen] / occurrences[seen]).mean()) if seen.any() else 0.0
