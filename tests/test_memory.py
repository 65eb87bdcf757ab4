"""`hark memory` on a tiny model: real steps in a real worker, from the buckets to a run that trains with them."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import yaml

from research.cli import main
from research.compose import compose_config
from research.config import Data, Streams
from research.data import manifest
from research.data.plan import Plan, by_budget
from research.errors import HarkError
from research.launch.bench import Bench
from research.launch.buckets import bounds_of
from research.launch.team import Team
from tests import runs
from tests.trials import HUGE, TINY, lines, memory, trials


@pytest.fixture(scope="module")
def base(speech):
    """Bytes that a worker takes for one row of a second."""
    bench = Bench(compose_config(TINY).config, Team())
    trial = bench.measure(1, 1.0, 1, HUGE)
    bench.close()
    return trial.peak


@pytest.fixture(scope="module")
def found(speech, base, tmp_path_factory):
    """The file of a search under a limit that some batches went over."""
    out = tmp_path_factory.mktemp("memory") / "sizes.yaml"
    assert main(memory(speech, out, "--limit", str(base + 25_000_000), "--max-rows", "8")) == 0
    return out


def test_the_search_goes_on_after_batches_that_did_not_fit(found, base):
    tried = trials(found)
    fitted = [line["trial"] for line in tried if line["trial"]["fits"]]
    too_large = [line["trial"] for line in tried if not line["trial"]["fits"]]
    assert too_large
    assert fitted
    assert tried[-1]["trial"]["fits"]
    assert all(0.5 * base < one["peak"] <= base + 25_000_000 for one in fitted)
    assert all(one["peak"] > base + 25_000_000 for one in too_large)
    assert min(line["trial"]["rows"] for line in tried) >= 1


def test_the_file_says_how_it_was_made(found):
    values = yaml.safe_load(found.read_text())
    made = values["made"]
    assert made["command"].startswith("hark memory encoder=fastconformer_tiny")
    assert "cpu" in made["device"]
    assert len(made["buckets"]) == 2
    assert max(bucket["peak_gb"] for bucket in made["buckets"]) * 0.95 < made["peak_gb"] <= made["limit_gb"]
    assert made["buckets"][-1]["bound"] == values["bounds"][-1]
    for bucket in made["buckets"]:
        assert 1 <= bucket["rows"] <= bucket["rows_that_fit"] <= 8
        assert bucket["peak_gb"] <= made["limit_gb"]
        assert bucket["step_s"] > 0


def test_a_run_trains_with_what_was_found_and_nothing_is_dropped(found, speech, tmp_path):
    data = compose_config((*TINY, f"data.bins={found}")).config.data
    durations = manifest.load([speech["train"]], Data()).durations
    bounds, sizes = by_budget(durations, data)
    assert durations.max() <= bounds[-1] < durations.max() + 2e-3
    plan = Plan(durations, bounds, sizes)
    read = [plan[b].rows for b in range(plan.per_epoch)]
    assert sorted(np.concatenate(read).tolist()) == list(range(len(durations)))
    for batch in read:
        assert len(batch) <= sizes[np.searchsorted(bounds, durations[batch].max())]
    run = runs.train(speech, tmp_path, f"data.bins={found}", "train.steps=1", "train.validate_every=100")
    assert runs.metrics(run)[0]["step"] == 1


def test_the_same_command_tries_nothing_twice(found, speech, base, capsys):
    before, sizes = lines(found), yaml.safe_load(found.read_text())["sizes"]
    assert len(before) > len(trials(found))  # batches in turn as well: a second try may waver
    assert main(memory(speech, found, "--limit", str(base + 25_000_000), "--max-rows", "8")) == 0
    assert lines(found) == before
    assert yaml.safe_load(found.read_text())["sizes"] == sizes
    assert "train with data.bins" in capsys.readouterr().out


HEARING = """
import signal, sys
from research.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background begins without
sys.exit(main(sys.argv[1:]))
"""


def test_ctrl_c_keeps_what_was_tried(speech, tmp_path):
    out = tmp_path / "sizes.yaml"
    words = memory(speech, out, "data.buckets=1", "--max-rows", "2")
    long = ("--repeats", "10000")  # whenever the signal comes, something is being timed
    process = subprocess.Popen(
        [sys.executable, "-c", HEARING, *words, *long], cwd=runs.ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    while process.poll() is None and not out.with_suffix(".trials.jsonl").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the worker as well
    code, said = runs.finish(process)
    assert code == 128 + signal.SIGINT, said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert not out.exists()
    before = trials(out)
    assert main(words) == 0
    assert trials(out)[: len(before)] == before
    assert {line["limit"] for line in trials(out)} == {before[0]["limit"]}  # not what is free by now
    assert out.exists()


def test_a_bucket_that_does_not_fit_is_an_error_that_says_what_to_do(speech, tmp_path, capsys):
    out = tmp_path / "sizes.yaml"
    assert main(memory(speech, out, "data.buckets=1", "--limit", "20MB")) == 2
    said = capsys.readouterr()
    assert "does not fit into 0.02 GB" in said.err
    assert "a larger --limit" in said.err
    assert "does not fit" in said.out
    assert not out.exists()


def test_what_is_too_long_is_named_with_the_length_that_fits(speech, base, tmp_path, capsys):
    """A minute of audio goes over what a second fits into."""
    out = tmp_path / "sizes.yaml"
    words = memory(
        speech, out, "data.bounds=[1.0,3.0,120.0]", "--limit", str(base + 50_000_000), "--max-rows", "2"
    )
    assert main(words) == 2
    said = capsys.readouterr()
    assert "one row of 120.00 s does not fit" in said.err
    assert "data.max_seconds=3.00 and bins for it" in said.err
    assert not out.exists()


def test_two_ranks_go_on_after_a_batch_that_did_not_fit(speech, base, tmp_path):
    out = tmp_path / "sizes.yaml"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc_per_node=2")
    words = memory(
        speech,
        out,
        "data.bounds=[3.0,200.0]",
        "train.batches=2",
        "--limit",
        str(base + 200_000_000),
        "--max-rows",
        "1",
    )
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "research.cli", *words], cwd=runs.ROOT, check=False, text=True,
        capture_output=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode != 0
    assert "type data.max_seconds=3.00" in done.stderr.lower()
    assert done.stdout.count("200.00 s: not even one row fits") == 1
    assert ", 2 ranks: up to" in done.stdout
    assert [(line["trial"]["rows"], line["trial"]["fits"]) for line in trials(out)] == [(1, False), (1, True)]


def test_a_step_on_paper_needs_no_device(speech, tmp_path):
    out = tmp_path / "sizes.yaml"
    words = memory(
        speech, out, "data.bounds=[5.0,20.0]", "--predict", "h100", "--max-rows", "8", "--limit", "4GB"
    )
    assert main(words) == 0
    made = yaml.safe_load(out.read_text())["made"]
    assert made["device"] == "h100, predicted"
    assert made["limit_gb"] == 4.0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--limit", "900TB"), "--limit 900000.00 GB: "),
        (("--predict", "h101"), "did you mean"),
        (("--predict", "cpu"), "type --limit"),
        (("--fraction", "1.5"), "a share of the memory"),
        (("--repeats", "0"), "--repeats 0: must be at least 1"),
        (("data.train=[]",), "nothing says what the buckets are"),
    ],
)
def test_bad_input_is_one_line(speech, tmp_path, words, said, capsys):
    assert main(memory(speech, tmp_path / "sizes.yaml", *words)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_worker_that_was_killed_is_replaced(base):
    bench = Bench(compose_config(TINY).config, Team())
    first = bench.process.pid
    trial = bench.measure(1, 1.0, 1, 10_000_000)
    assert not trial.fits
    assert bench.process is None
    trial = bench.measure(1, 1.0, 1, HUGE)
    assert trial.fits
    assert bench.process.pid != first
    large = bench.measure(8, 4.0, 1, HUGE).peak
    assert bench.measure(1, 1.0, 1, HUGE).peak < large  # what a trial took is given back
    bench.close()


def test_batches_in_turn_take_what_the_largest_takes_or_more(base):
    bench = Bench(compose_config(TINY).config, Team())
    fits, peak = bench.in_turn([(1, 1.0), (8, 4.0), (3, 2.0)], HUGE)
    assert fits
    assert peak > base
    assert bench.in_turn([(1, 1.0), (8, 4.0)], base + 5_000_000)[0] is False
    bench.close()


def test_buckets_are_those_of_any_data_and_cover_all_of_it(speech):
    durations = manifest.load([speech["train"]], Data()).durations
    paths = [str(speech["train"])]
    for data in (Data(train=paths, buckets=4), Streams(train=paths, buckets=4)):
        bounds = bounds_of(data)
        assert len(bounds) == 4
        assert sorted(bounds) == bounds
        assert bounds[-1] >= durations.max()
        by_hand = replace(data, bounds=[1.0, 9.0])
        assert bounds_of(by_hand) == bounds_of(replace(by_hand, train=[])) == [1.0, 9.0]
        with pytest.raises(HarkError, match="an utterance lasts"):
            bounds_of(replace(data, bounds=[0.6, 0.7]))
