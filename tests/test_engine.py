"""Ranks and data parallelism, with real gloo ranks."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from torch import nn

from research.engine import gangs
from research.engine.gangs import find_device, start
from research.engine.parallel import no_sync, wrap
from research.errors import HarkError
from research.nn.norm import BatchNorm
from tests.engines import VARIABLES, run_ranks


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 4)
        self.norm = BatchNorm(4)
        self.head = nn.Linear(4, 1)
        self.register_buffer("codes", torch.randn(5))

    def forward(self, x):  # (B, T, 3) -> ()
        valid = torch.ones(x.shape[:2], dtype=torch.bool)
        return self.head(self.norm(self.inner(x), valid).square()).square().sum()


def batch_of(rank, micro):
    torch.manual_seed(10 * rank + micro)
    return torch.randn(2 + rank, 4, 3)  # ranks and micro-batches differ in size


def check_two_ranks(ranks):
    assert (ranks.rank, ranks.size, ranks.device) == (int(os.environ["RANK"]), 2, torch.device("cpu"))
    total = torch.tensor([ranks.rank + 1.0, 5.0])
    ranks.all_sum(total)
    assert total.tolist() == [3.0, 10.0]

    torch.manual_seed(ranks.rank)
    model = Student()
    wrapped = wrap(model, ranks)
    assert type(model.norm) is BatchNorm
    torch.manual_seed(0)
    alone = Student()  # what rank 0 began with
    for key, value in alone.state_dict().items():
        assert torch.equal(value, model.state_dict()[key]), key

    for micro in (0, 1):
        with no_sync(wrapped, active=micro == 0):
            wrapped(batch_of(ranks.rank, micro)).backward()
    for rank in (0, 1):
        for micro in (0, 1):
            alone(batch_of(rank, micro)).backward()
    for mine, all_in_one in zip(model.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, all_in_one.grad)


def test_two_ranks_sum_tensors_and_gradients():
    run_ranks(2, check_two_ranks)


def test_one_rank_needs_no_process_group():
    ranks = start("cpu")
    value = torch.tensor([2, 3])
    ranks.all_sum(value)
    ranks.barrier()
    model = nn.Linear(2, 2)
    assert wrap(model, ranks) is model
    with no_sync(model, active=True):
        model(torch.ones(1, 2)).sum().backward()
    assert value.tolist() == [2, 3]
    assert (ranks.rank, ranks.size) == (0, 1)
    assert not torch.distributed.is_initialized()
    ranks.close()


@pytest.mark.parametrize("name", ["gpu", "meta", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_named(name):
    with pytest.raises(HarkError, match=f"run.device={name}"):
        find_device(name)


def test_each_rank_takes_the_device_of_its_local_rank(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert find_device("auto", size=8) == torch.device("cuda:3")
    assert find_device("auto") == torch.device("cuda:0")
    assert find_device("cuda:2") == torch.device("cuda:2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)  # a cluster that shows each task one device
    assert find_device("cuda", size=8) == torch.device("cuda:0")
    with pytest.raises(HarkError, match="each of 8 ranks"):
        find_device("cuda:0", size=8)


def test_a_world_without_an_address_is_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(HarkError, match="LOCAL_RANK, MASTER_ADDR, MASTER_PORT"):
        start("cpu")


def test_ranks_that_do_not_meet_say_where(monkeypatch):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        for name, value in zip(VARIABLES, ("0", "0", "2", "127.0.0.1", str(port)), strict=True):
            monkeypatch.setenv(name, value)
        with pytest.raises(HarkError, match=f"127.0.0.1:{port}"):
            gangs.meet(torch.device("cpu"))


def test_importing_the_engine_needs_no_system_library_and_starts_no_container():
    """fairseq2's container imports every model family: seconds that no run needs."""
    code = (
        "import sys, research.engine.bindings as b; assert b.prepare(), b.problem();"
        "import research.engine.checkpoint, research.engine.parallel, research.engine.pipeline as p;"
        "from research.engine.gangs import start; start('cpu'); list(p.read([1], abs, 1));"
        "assert 'fairseq2n.bindings' in sys.modules;"
        "assert not {'fairseq2.composition', 'fairseq2.recipe', 'fairseq2.trainer'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
