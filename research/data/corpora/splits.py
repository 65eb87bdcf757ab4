"""Which utterances train, validate and probe: decided by their names, whatever order they come in."""

import hashlib
from collections.abc import Sequence

from research.data.corpora.corpus import Row, Splits

VALID = 150  # utterances at most, and a tenth of the corpus at most


def place(row: Row) -> float:
    """Give a number in [0, 1) that depends on the utterance's id alone."""
    return int(hashlib.sha256(row["id"].encode()).hexdigest()[:8], 16) / 2**32


def speech(rows: Sequence[Row], labelled: Sequence[Row], test: float, train: float) -> Splits:
    """Choose phones_test and phones_train (shares of `labelled`), then valid; train is all but the test and valid.

    The sentences of phones_train may be heard in pretraining, unlabelled; those of phones_test never are.
    """
    phones_test = [row for row in labelled if place(row) < test]
    phones_train = [row for row in labelled if test <= place(row) < test + train]
    taken = {row["id"] for row in [*phones_test, *phones_train]}
    free = sorted((row for row in rows if row["id"] not in taken), key=place)
    valid = {row["id"] for row in free[: min(VALID, len(rows) // 10)]}
    held_out = valid | {row["id"] for row in phones_test}
    return {
        "train": [row for row in rows if row["id"] not in held_out],
        "valid": [row for row in rows if row["id"] in valid],
        "phones_train": phones_train,
        "phones_test": phones_test,
    }
