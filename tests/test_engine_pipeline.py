"""Reading through fairseq2's C++ pipeline."""

import itertools
import os
import subprocess
import sys
import threading

import pytest

from research.engine import pipeline
from research.engine.bindings import problem
from research.engine.pipeline import AHEAD, read
from research.errors import HarkError

pytestmark = pytest.mark.skipif(bool(problem()), reason=f"no bindings: {problem()}")
WORKERS = pytest.mark.parametrize("workers", [0, 1, 2, 5])


@WORKERS
def test_results_come_in_order(workers):
    def load(k):
        threading.Event().wait(0.002 * (k % 3))  # later items are ready earlier
        return k * k

    assert list(read(range(50), load, workers)) == [k * k for k in range(50)]


@WORKERS
def test_any_object_passes_as_it_is(workers):
    things = [
        None,
        "text",
        b"bytes",
        1,
        2.5,
        [1, [2]],
        {"a": (1, 2)},
        object(),
        ValueError("a value"),
        {1, 2},
        2**80,
    ]
    results = list(read(things, lambda thing: thing, workers))
    assert all(a is b for a, b in zip(things, results, strict=True))


@WORKERS
def test_an_error_of_load_reaches_the_reader_in_its_turn(workers):
    wrong = HarkError("data/x.wav: cannot be decoded")

    def load(k):
        if k == 3:
            raise wrong
        return k

    results = read(itertools.count(), load, workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(HarkError) as caught:
        next(results)
    assert caught.value is wrong


@WORKERS
def test_an_error_of_the_items_reaches_the_reader_in_its_turn(workers):
    def items():
        yield from range(3)
        raise HarkError("train.jsonl:4: broken")

    results = read(items(), str, workers)
    assert [next(results) for _ in range(3)] == ["0", "1", "2"]
    with pytest.raises(HarkError, match=r"train\.jsonl:4"):
        next(results)


@pytest.mark.parametrize("workers", [1, 2])
def test_endless_items_are_read_only_as_far_as_needed(workers):
    taken = itertools.count()
    results = read(taken, str, workers)
    assert [next(results) for _ in range(10)] == [str(k) for k in range(10)]
    results.close()
    del results
    assert next(taken) <= 10 + (AHEAD + 4) * workers


def test_without_workers_the_caller_reads():
    assert set(read(range(5), lambda _: threading.get_ident(), 0)) == {threading.get_ident()}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the pipeline runs no more threads than cores")
def test_workers_read_at_the_same_time():
    """Each waits for the other: alone, neither would finish."""
    both = threading.Barrier(2, timeout=30)
    assert sorted(read([1, 2], lambda k: both.wait() * 0 + k, 2)) == [1, 2]


def test_results_are_loaded_before_they_are_asked_for():
    loaded = threading.Semaphore(0)
    results = read(itertools.count(), lambda k: loaded.release() or k, 1)
    assert next(results) == 0
    for _ in range(1 + AHEAD):
        assert loaded.acquire(timeout=30)


def test_a_pipeline_may_be_dropped_unread_or_under_way():
    """In a process of its own, for it is fairseq2 that would crash it."""
    code = (
        "import itertools, time; from research.engine.pipeline import read;"
        "results = read(itertools.count(), lambda k: time.sleep(0.001) or k, 2);"
        "assert next(results) == 0; read(itertools.count(), str, 2); other = read(itertools.count(), str, 2); next(other); del other"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_missing_bindings_are_refused_at_once(monkeypatch):
    monkeypatch.setattr(pipeline, "problem", lambda: "it is built for torch 2.9.1, not 9.9")
    with pytest.raises(HarkError, match=r"torch 2\.9\.1, not 9\.9\); use data\.reader=torch"):
        read([1], str, 1)
