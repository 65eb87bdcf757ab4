import itertools
import multiprocessing
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from research.data import torch_reader
from research.data.plan import Item, by_budget, in_order
from research.data.stream import once, stream
from research.engine import bindings, pipeline
from research.errors import HarkError
from tests.sounds import RATE, everything, loader_of, plan_of, signal_of, write

pytestmark = pytest.mark.usefixtures("module_cache")


def take(loader, plan, number, read=torch_reader.read, **how):
    batches = stream(loader, plan, read, **how)
    found = list(itertools.islice(batches, number))
    batches.close()
    return found


def same(a, b):
    pairs = [(a.batch.audio, b.batch.audio)]
    pairs += [(a.batch.noise, b.batch.noise)] if a.batch.noise else []
    equal = all(torch.equal(x.x, y.x) and torch.equal(x.lengths, y.lengths) for x, y in pairs)
    return equal and a.batch.ids == b.batch.ids and (a.epoch, a.counts) == (b.epoch, b.counts)


def spoil(folder, utterances, bad):
    """A corpus in which `bad` files break after the manifest was checked."""
    for i in range(utterances):
        soundfile.write(folder / f"{i}.flac", signal_of(0.2, RATE), RATE)
    train = write(
        folder / "train.jsonl", *[{"audio_filepath": f"{i}.flac", "duration": 0.2} for i in range(utterances)]
    )
    loader = loader_of(train)
    for i in bad:
        (folder / f"{i}.flac").write_bytes(b"fLaC gone")
    return loader


def test_a_broken_utterance_is_left_out_counted_and_logged(tmp_path, caplog):
    loader = spoil(tmp_path, 200, [3])
    plan = plan_of(loader)
    found = take(loader, plan, 2 * plan.per_epoch)
    ids = [name for each in found for name in each.batch.ids]
    assert len(ids) == 2 * 199
    assert not any(name.endswith("/3.flac") for name in ids)
    assert sum(len(each.bad) for each in found) == 2
    assert caplog.text.count("3.flac: cannot be decoded") == 1


@pytest.mark.parametrize("harm", ["missing", "short", "nan", "empty"])
def test_all_that_can_be_wrong_with_a_file_is_left_out(tmp_path, harm):
    loader = spoil(tmp_path, 3, [])
    path = tmp_path / "1.flac"
    path.unlink()
    told = "is missing"
    if harm == "short":
        soundfile.write(path, signal_of(0.05, RATE), RATE)
        told = "gives 0.05 s instead of 0.20 s from 0.00 s on"
    if harm == "empty":
        soundfile.write(path, signal_of(0.0, RATE), RATE)
        told = "cannot be decoded"
    if harm == "nan":
        wave = signal_of(0.2, RATE)
        wave[7] = np.nan
        soundfile.write(path, wave, RATE, format="WAV", subtype="FLOAT")
        told = "holds NaN"
    found = everything(loader)
    assert len(found.batch.ids) == 2
    assert len(found.bad) == 1
    assert f"1.flac: {told}" in found.bad[0]


def test_a_batch_of_broken_utterances_is_none(tmp_path):
    loader = spoil(tmp_path, 3, [0, 1, 2])
    found = everything(loader)
    assert found.batch is None
    assert (found.seconds, found.padded, len(found.bad)) == (0.0, 0.0, 3)
    assert [each.batch for each in once(loader, [Item(0, np.arange(3))], torch_reader.read)] == [None]


def test_too_many_broken_utterances_stop_the_run(tmp_path):
    loader = spoil(tmp_path, 150, range(0, 150, 20))
    plan = plan_of(loader)
    with pytest.raises(
        HarkError, match=r"\d+ of 1\d\d utterances could not be read, more than data.max_bad=0.01"
    ):
        take(loader, plan, plan.per_epoch)
    loader.cfg.max_bad = 0.1
    assert len(take(loader, plan, plan.per_epoch)) == plan.per_epoch


@pytest.mark.parametrize(
    ("read", "workers"),
    [(torch_reader.read, 1), (torch_reader.read, 2), (pipeline.read, 0), (pipeline.read, 2)],
)
def test_readers_and_workers_give_the_same_batches(mixed, noises, read, workers):
    if read is pipeline.read and bindings.problem():
        pytest.skip(bindings.problem())
    loader = loader_of(mixed, noises)
    plan = plan_of(loader, seed=5)
    loader.cfg.workers = 0
    wanted = take(loader, plan, 2 * plan.per_epoch + 3)
    loader.cfg.workers = workers
    found = take(loader, plan, 2 * plan.per_epoch + 3, read)
    assert all(same(a, b) for a, b in zip(wanted, found, strict=True))


def test_resumes_at_any_batch(mixed, noises):
    loader = loader_of(mixed, noises, workers=0)
    wanted = take(loader, plan_of(loader), 20)
    for start in (1, 7, 19):
        found = take(loader, plan_of(loader), 20 - start, start=start)
        assert all(same(a, b) for a, b in zip(wanted[start:], found, strict=True))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_one_order_whatever_their_number(mixed, world):
    loader = loader_of(mixed, workers=0)
    wanted = take(loader, plan_of(loader, group=6), 24, start=6)
    parts = [
        take(loader, plan_of(loader, group=6), 24 // world, rank=r, world=world, start=6)
        for r in range(world)
    ]
    found = [each for together in zip(*parts, strict=True) for each in together]
    assert all(same(a, b) for a, b in zip(wanted, found, strict=True))


@pytest.mark.parametrize("world", [1, 3])
def test_validation_is_one_pass_over_everything(mixed, world):
    loader = loader_of(mixed, workers=0)
    items = in_order(loader.speech.durations, *by_budget(loader.speech.durations, loader.cfg))
    parts = [
        [e.batch.ids for e in once(loader, items, torch_reader.read, rank=r, world=world)]
        for r in range(world)
    ]
    names = [name for part in parts for ids in part for name in ids]
    assert len(names) == 40
    assert set(names) == {loader.speech.utterance(i).id for i in range(40)}
    again = [e.batch.ids for e in once(loader, items, torch_reader.read, rank=0, world=world)]
    assert again == parts[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_draws_no_random_number(mixed, noises, workers):
    loader = loader_of(mixed, noises, workers=workers)
    before = torch.get_rng_state()
    take(loader, plan_of(loader), 3)
    assert torch.equal(torch.get_rng_state(), before)


def pid_after(item):
    return os.getpid()


def test_workers_outlive_the_signals_that_stop_a_run():
    results = torch_reader.read(range(40), pid_after, 1)
    worker = next(results)
    assert worker != os.getpid()
    for name in ("TERM", "INT", "USR1", "USR2"):  # from another process, as the cluster's come
        subprocess.run(["kill", f"-{name}", str(worker)], check=True)
    assert set(results) == {worker}


def doze():
    torch_reader.outlive_signals(0)
    time.sleep(60)


def test_workers_end_when_their_parent_says_so():
    process = multiprocessing.get_context("fork").Process(target=doze)
    process.start()
    while not blocks_sigterm(process.pid):
        time.sleep(0.01)
    process.terminate()
    process.join(30)
    assert process.exitcode == 0


def blocks_sigterm(pid):
    (mask,) = [
        x.split()[1] for x in Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith("SigBlk")
    ]
    return int(mask, 16) >> (signal.SIGTERM - 1) & 1
