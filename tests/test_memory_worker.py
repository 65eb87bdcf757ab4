"""Steps on trial in a worker: what they leave behind, and which errors mean that they do not fit."""

import pytest
import torch

from research.compose import compose_config
from research.engine.gangs import start
from research.errors import HarkError
from research.launch.bench import Bench
from research.launch.team import Team
from research.launch.trial import full_batch
from research.launch.worker import Outcome, Worker, short_of_memory
from tests.trials import HUGE, TINY


@pytest.fixture
def worker():
    return Worker(compose_config((*TINY, "train.batches=2")).config, start("cpu"))


def test_a_trial_makes_the_optimizers_state_and_moves_nothing(worker):
    assert worker.attempt([(1, 1.0)], 1, HUGE).outcome is Outcome.fits
    before = {name: value.clone() for name, value in worker.student.task.named_parameters()}
    batches = []
    worker.student.task.register_forward_pre_hook(lambda _, args: batches.append(args[0]))
    answer = worker.attempt([(2, 1.5)], 2, HUGE)
    assert answer.time > 0
    assert len(batches) == 3 * 2  # steps, one of them to warm up, of two micro-batches
    assert all(batch.audio.x.shape == (2, 24_000) for batch in batches)
    trained = [value for value in worker.student.task.parameters() if value.requires_grad]
    assert len(worker.student.optimizer.state) == len(trained)
    for name, value in worker.student.task.named_parameters():
        assert torch.equal(value, before[name])
        assert value.grad is None


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), Outcome.full),
        (RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"), Outcome.ruined),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            Outcome.ruined,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), Outcome.ruined),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1e12 bytes"),
            Outcome.ruined,
        ),
        (MemoryError(), Outcome.ruined),
    ],
)
def test_errors_of_memory_mean_that_it_does_not_fit(worker, error, outcome):
    def fail(*_):
        raise error

    worker.attempt([(1, 1.0)], 1, HUGE)
    hook = worker.student.task.register_forward_pre_hook(fail)
    assert worker.attempt([(2, 1.0)], 1, HUGE).outcome is outcome
    hook.remove()
    assert worker.attempt([(2, 1.0)], 1, HUGE).outcome is Outcome.fits


def test_other_errors_are_not_taken_for_one_of_memory(worker):
    def fail(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    worker.attempt([(1, 1.0)], 1, HUGE)
    worker.student.task.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="mat1"):
        worker.attempt([(2, 1.0)], 1, HUGE)
    assert not short_of_memory(ValueError("no"))


def test_a_wrong_config_is_told_from_the_worker():
    with pytest.raises(HarkError, match=r"run.device=cuda:7"):
        Bench(compose_config((*TINY, "run.device=cuda:7")).config, Team())


def test_rows_are_full_and_as_noisy_as_the_run_makes_them():
    cfg = compose_config((*TINY, "data.noise=[noise.jsonl]")).config
    batch = full_batch(cfg, 3, 2.0)
    assert batch.audio.x.shape == batch.noise.x.shape == (3, 32_000)
    assert batch.audio.lengths.tolist() == [32_000] * 3
    assert len(batch.changed) == 0
    assert full_batch(compose_config(TINY).config, 1, 1.0).noise is None
    mixed = (*TINY, "data=lhotse", "data.mix.prob=0.1")
    assert full_batch(compose_config(mixed).config, 3, 1.0).changed.tolist() == [0, 1, 2]
    clean = compose_config((*mixed, "data.mix.clean=true")).config
    assert len(full_batch(clean, 3, 1.0).changed) == 0
