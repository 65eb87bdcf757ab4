"""A model that ranks share: what each holds, what is refused, and that nobody notices."""

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor

from research import registry
from research.classification.command import compose as compose_classify
from research.compose import compose_config
from research.conformance.case import Case, speech
from research.conformance.tools import close, snapshot, student, train
from research.engine.checkpoint import Checkpoints
from research.engine.gangs import FakeGang, Ranks, create_parallel_gangs, start
from research.engine.sharding import blocks, full
from research.engine.whole import Whole
from research.errors import HarkError
from research.model import check
from research.training import optimizer as optim
from research.training.validation import validate
from tests import teacher  # noqa: F401  registers its objective
from tests.engines import run_ranks

SIZE = ("train.batches=2", "optimizer.eps=1.0", "optimizer.lr=0.5")


def begun(ranks, parallel, name="follow_teacher", seed=0, steps=1):
    """A student after a step over two batches."""
    registry.load_plugins()
    case, overrides = Case("objective", name), (*SIZE, f"train.parallel={parallel}")
    model = case.model(*overrides, seed=seed)
    mine = [speech(model, (0.5,), seed=10 * step + k) for step in range(steps) for k in (0, 1)]
    it = student(model, case.config(*overrides), ranks)
    train(it, mine[ranks.rank :: ranks.size])
    return it


def size_of(it):
    """Bytes of trained parameters, their gradients and moments that this rank holds."""
    params = [p for group in it.optimizer.param_groups for p in group["params"]]
    moments = [v for p in params for v in it.optimizer.state[p].values() if v.shape == p.shape]
    held = [
        value.to_local() if isinstance(value, DTensor) else value for value in [*params, *params, *moments]
    ]
    return sum(value.numel() * value.element_size() for value in held)


def share(ranks, folder):
    it, whole = begun(ranks, "fsdp"), begun(ranks, "ddp")
    assert size_of(it) < 0.51 * size_of(whole)
    for key, value in snapshot(whole.task).items():
        assert close(snapshot(it.task)[key], value), key
    assert it.task.head.weight is it.task.other_head.weight

    checks = [(k, speech(whole.task, (0.4,), seed=50 + k)) for k in range(3)]  # rank 1 has one, rank 0 two
    found = [validate(one, checks[ranks.rank :: 2]) for one in (it, whole)]
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    torch.save({"values": found[0], "checks": checks}, folder / f"valid-{ranks.rank}.pt")

    first = begun(Ranks(create_parallel_gangs(FakeGang(torch.device("cpu")))), "ddp", steps=0).task
    here = snapshot(begun(ranks, "fsdp", seed=ranks.rank, steps=0).task)
    assert all(torch.equal(here[key], value) for key, value in snapshot(first).items())

    saved = Checkpoints(folder / "checkpoints", ranks, keep_last=1, keep_best=0)
    saved.save(1, it.task.state_dict(), optim.state_of(it.optimizer), {"step": 1})
    saved.close()
    change(it.task)


def change(task):
    """What `on_step_end` may do with a shared parameter reads as of a whole one, or is refused."""
    weight, whole = task.centres, full(task.centres.detach())
    assert isinstance(weight, DTensor)
    with torch.no_grad(), Whole():
        torch.testing.assert_close(1 + weight.square().mean(), 1 + whole.square().mean())
        torch.testing.assert_close(weight.mean(0), whole.mean(0))
        torch.testing.assert_close(weight.T[1].clone(), whole.T[1])
        for lost in (weight[0].zero_, weight.normal_):
            with pytest.raises(HarkError, match="on_step_end changes a piece of a parameter"):
                lost()
        weight.mul_(2).add_(whole)
    torch.testing.assert_close(full(weight.detach()), 3 * whole)


def test_two_ranks_share_a_model(tmp_path):
    """One process takes their checkpoint for its own."""
    run_ranks(2, share, tmp_path)
    alone = begun(start("cpu"), "fsdp")
    assert not any(isinstance(value, DTensor) for value in alone.task.parameters())
    state = Checkpoints(tmp_path / "checkpoints", start("cpu"), keep_last=1, keep_best=0).load()
    for key, value in snapshot(alone.task).items():
        assert close(state.model[key], value), key
    mine, theirs = optim.state_of(alone.optimizer), state.optimizer
    assert mine["param_groups"] == theirs["param_groups"]
    for number, moments in mine["state"].items():
        for name, value in moments.items():
            assert close(theirs["state"][number][name], value, scale=1e-2), (number, name)
    kept = torch.load(tmp_path / "valid-0.pt", weights_only=False)
    assert validate(alone, kept["checks"]) == pytest.approx(kept["values"], rel=1e-3)


def test_blocks_are_those_of_encoders_that_share_nothing_with_others():
    registry.load_plugins()
    task = Case("objective", "follow_teacher").model()
    assert set(blocks(task)) == {*task.encoder.layers, *task.teacher.layers}
    first, *others = task.encoder.layers
    task.mine = first.ff1.up.weight
    assert set(blocks(task)) == {*others, *task.teacher.layers}
    others[0].attention = others[-1].attention
    assert others[0] not in blocks(task) or len(others) == 1


def refuse_scalar(ranks):
    registry.load_plugins()
    case = Case("objective", "nest")
    model = case.model(*SIZE)
    model.scale = nn.Parameter(torch.ones(()))
    with pytest.raises(HarkError, match="scale has no dimension that ranks could share"):
        student(model, case.config(*SIZE, "train.parallel=fsdp"), ranks)


def test_a_parameter_without_a_dimension_is_refused():
    run_ranks(2, refuse_scalar)


def test_what_cannot_be_shared_is_refused_when_the_config_is_composed():
    both = ["data.train=[]", "train.parallel=fsdp", "train.compile=true"]
    with pytest.raises(HarkError, match=r"train.compile=true: compiles blocks as they are"):
        check(compose_config(both).config)
    with pytest.raises(HarkError, match="cannot share an encoder that begins to be trained"):
        compose_classify(["label=lang", "train.parallel=fsdp", "tune.start=5"])
