"""Combinations of parts: those that are not refused train, and all that is refused has a reason."""

import re
from contextlib import nullcontext

import pytest
import torch

from research.conformance.matrix import AXES, Cell, axis, config, covering, legal, problem, refusal
from research.engine.gangs import start
from research.errors import HarkError
from research.model import check


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cells():
    return legal()


def test_every_pair_of_parts_that_is_legal_trains(cells):
    ranks = start("cpu")
    chosen = covering(cells)
    assert len(chosen) < len(cells) / 5
    wrong = {str(cell): said for cell in chosen if (said := problem(cell, ranks))}
    assert not wrong


def test_every_part_is_in_a_legal_cell(cells):
    for place, kind in enumerate(AXES):
        assert set(axis(kind)) == {cell[place] for cell in cells}


def test_a_covering_array_has_every_pair_that_there_is():
    some = [
        Cell(e, q, m, "o", f) for e in "ab" for q in "cd" for m in "xy" for f in "fgh" if (e, q) != ("a", "c")
    ]
    chosen = covering(some)
    assert len(chosen) <= 9
    for i in range(5):
        for j in range(i):
            assert {(c[i], c[j]) for c in chosen} == {(c[i], c[j]) for c in some}


CELL = Cell("fastconformer_tiny", "random_projection", "block", "nest", "log_mel")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"masking": "none"}, "objective=nest learns from masked frames"),
        ({"quantizer": "none"}, "this objective needs one"),
        ({"quantizer": "gumbel"}, "trains no quantizer"),
        ({"objective": "mel_contrast"}, "does not use it"),
        ({"objective": "apc", "quantizer": "none", "masking": "none"}, "hears"),
    ],
)
def test_what_is_refused_here_is_refused_by_hark_train_with_the_same_words(changes, says):
    cell = CELL._replace(**changes)
    reason = refusal(cell)
    assert says in reason
    with pytest.raises(HarkError, match=re.escape(reason)) if reason else nullcontext():
        check(config(cell))
