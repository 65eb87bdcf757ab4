"""CTC (ICML 2006, doi 10.1145/1143844.1143891) by trying every path, and edit distances by recursion: tiny inputs only."""

from functools import cache
from itertools import product

import torch


def read(path, blank):
    """What a path says: repeats, then blanks left out."""
    said = [c for t, c in enumerate(path) if t == 0 or c != path[t - 1]]
    return [c for c in said if c != blank]


def loss(scores, text, blank):
    """Minus the log probability of a text: scores (T, K + 1). None where no path says it."""
    logs = scores.log_softmax(-1)
    paths = [p for p in product(range(scores.size(1)), repeat=len(scores)) if read(p, blank) == list(text)]
    if not paths:
        return None
    return -torch.logsumexp(torch.stack([sum(logs[t, c] for t, c in enumerate(p)) for p in paths]), 0)


def edits(a, b):
    """The fewest insertions, deletions and swaps that make one sequence of the other."""

    @cache
    def rest(i, j):
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        return min(rest(i + 1, j + 1) + (a[i] != b[j]), rest(i + 1, j) + 1, rest(i, j + 1) + 1)

    return rest(0, 0)
