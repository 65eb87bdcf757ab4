"""What a training step waits for: one read of its outcome, and of other ranks nothing but gradients and four numbers."""

from collections import Counter
from itertools import repeat

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from research import registry
from research.conformance.case import Case, speech
from research.conformance.tools import student
from research.conformance.waiting import no_values
from research.contracts import Stat
from research.engine.gangs import start
from research.engine.sharding import blocks
from research.training.data import Fed
from research.training.seeds import seed_all
from research.training.stats import StatBag
from research.training.step import read_back, tally, train_step
from tests.engines import run_ranks

# no division by tiny gradients: rounding stays rounding
SMALL = ("train.batches=2", "optimizer.eps=1.0", "optimizer.lr=0.5")


class Calls(TorchDispatchMode):
    """Books every collective: its name and how many elements it moves."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "c10d":
            first = args[0][0] if isinstance(args[0], list) else args[0]
            self.seen.append((func.overloadpacket.__name__, first.numel()))
        return func(*args, **(kwargs or {}))


class Reads(TorchDispatchMode):
    """Counts what is read from the device without values, where everything is 1."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        to_host = (kwargs or {}).get("device") == torch.device("cpu")
        if func.overloadpacket.__name__ == "_to_copy" and args[0].is_meta and to_host:
            self.count += 1
            return torch.ones(args[0].shape, dtype=args[0].dtype)
        return func(*args, **(kwargs or {}))


def fed(model, seconds=(0.5, 0.3), seed=0):
    return Fed(speech(model, seconds, seed=seed), 0.8, Stat(torch.zeros(())))


def test_the_outcome_is_read_at_once():
    with no_values() as device, Reads() as reads:
        sums = tally(5, 2.0, 0.0, torch.zeros((), device=device))
        outcome = read_back(torch.zeros((), device=device), sums)
    assert reads.count == 1
    assert outcome.sound


def steps(ranks, *overrides):
    """The collectives of a third step, with what they are of; DDP chooses its buckets after the first."""
    case = Case("objective", "nest")
    model = case.model(*SMALL, *overrides)
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    it, bag = student(model, case.config(*SMALL, *overrides), ranks), StatBag(ranks.device)
    batches = (fed(model, seed=2 * step + ranks.rank) for step in range(3))
    for step in (0, 1):
        train_step(it, batches, step, bag, stop=False)
    with Calls() as calls:
        train_step(it, batches, 2, bag, stop=False)
    return calls.seen, sum(sizes), it.task


def count_calls(ranks):
    registry.load_plugins()
    seen, size, _ = steps(ranks, "encoder.conv_norm=layer")
    assert seen[0] == ("allreduce_", 4), seen  # it is on its way before there is any gradient
    assert {name for name, _ in seen} == {"allreduce_"}
    assert sum(elements for _, elements in seen[1:]) == size

    seen, size, model = steps(ranks, "encoder.conv_norm=batch")
    pools = [module.pool.numel() for module in model.modules() if hasattr(module, "pool")]
    assert seen[-1] == ("allreduce_", sum(pools))  # of all norms of the encoder
    assert sum(elements for _, elements in seen[1:-1]) == size

    seen, _, model = steps(ranks, "encoder.conv_norm=layer", "train.parallel=fsdp")
    counts, units = Counter(name for name, _ in seen), len(blocks(model)) + 1
    assert [call for call in seen if call[0] == "allreduce_"] == [
        ("allreduce_", 4),
        ("allreduce_", 1),
    ]  # the norm
    assert counts["_reduce_scatter_base_"] == units
    assert units <= counts["_allgather_base_"] <= 2 * units
    assert set(counts) == {"allreduce_", "_reduce_scatter_base_", "_allgather_base_"}
    first = next(k for k, (name, _) in enumerate(seen) if name == "_reduce_scatter_base_")
    assert ("allreduce_", 4) in seen[:first]


def test_ranks_exchange_gradients_and_four_numbers():
    run_ranks(2, count_calls)


@pytest.mark.parametrize("clip", [0.0, 0.3, 1000.0])
def test_a_step_is_that_of_mean_gradients(clip):
    """Division and clipping inside the optimizer against a pass of their own."""
    registry.load_plugins()
    words = (*SMALL, f"train.clip={clip}", "train.batches=1")
    case = Case("objective", "nest")
    cfg, mine, plain = case.config(*words), case.model(*words), case.model(*words)
    it, bag = student(mine, cfg), StatBag(torch.device("cpu"))
    adamw = torch.optim.AdamW(
        plain.param_groups(), lr=cfg.optimizer.lr, betas=cfg.optimizer.betas, eps=1.0,
        weight_decay=cfg.optimizer.weight_decay, foreach=False,
    )  # fmt: skip
    for step in range(3):
        one = fed(plain, seed=step)
        outcome = train_step(it, iter([one]), step, bag, stop=False)
        seed_all(cfg.run.seed, step, 0)
        loss = plain(it.augment(one.batch))
        (loss.total / loss.count).backward()
        norm = nn.utils.clip_grad_norm_(plain.parameters(), clip or float("inf"))
        adamw.step()
        plain.encoder.on_step_end(step + 1)
        adamw.zero_grad()
        assert outcome.loss == pytest.approx(float(loss.total.detach() / loss.count), rel=1e-6)
        assert outcome.grad_norm == pytest.approx(float(norm), rel=1e-5)
        assert (outcome.grad_norm > clip) == (clip < 1)
    for (name, ours), theirs in zip(mine.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            ours, theirs, rtol=1e-5, atol=1e-6, msg=lambda said, name=name: f"{name}: {said}"
        )


def objectives():
    registry.load_plugins()
    return registry.names("objective")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU to wait for")
@pytest.mark.parametrize("name", objectives())
def test_a_gpu_is_waited_for_once_a_step(name):
    case = Case("objective", name)
    words = [*SMALL, "train.batches=1"]
    model = case.model(*words)
    one = fed(model)
    it, bag = student(model, case.config(*words), start("cuda")), StatBag(torch.device("cuda"))
    for step in range(3):  # the first ones set up libraries and the optimizer's state
        train_step(it, repeat(one), step, bag, stop=False)
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        train_step(it, repeat(one), 3, bag, stop=False)
    counts = Counter(event.name for event in seen.events())
    assert counts["cudaStreamSynchronize"] == 1, counts
    assert counts["cudaEventSynchronize"] == 0, counts
    assert sum(count for each, count in counts.items() if each.startswith("Memcpy DtoH")) == 1, counts
