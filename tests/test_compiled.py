"""Compiled blocks: the same numbers as plain ones, from a few graphs that serve every length."""

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from research import registry
from research.compose import compose_config
from research.conformance.case import Case
from research.contracts import Batch, Seq
from research.engine.compiled import compile_blocks
from research.engine.sharding import blocks
from research.training.loop import objective_of
from research.training.seeds import seed_all

DRY = ("encoder.dropout=0", "encoder.dropout_pre=0", "encoder.dropout_att=0")
FP32 = 5e-5
SHAPES = [(1.3, 4), (0.9, 6), (0.6, 9)]  # seconds, rows


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def nest(*overrides):
    registry.load_plugins()
    torch.manual_seed(0)
    return Case("objective", "nest").model("encoder.depth=2", *overrides).train()


def batch(seconds, rows):
    generator = torch.Generator().manual_seed(round(100 * seconds))
    size = round(seconds * 16_000)
    lengths = torch.linspace(0.6 * size, size, rows).long()
    x = torch.randn(rows, size, generator=generator) * (torch.arange(size) < lengths[:, None])
    return Batch.clean(Seq(x, lengths))


def step(model, seconds, rows, precision=torch.float32):
    """Loss and gradients."""
    seed_all("step", rows)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
        total = model(batch(seconds, rows)).total
    total.backward()
    return [total.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def agree(model, shapes, precision=torch.float32, backend="aot_eager", tolerance=FP32):
    """Hold compiled blocks to plain ones: losses, gradients, statistics. Give how many graphs there were.

    `tolerance` is a share of the largest gradient: some are zero but for rounding, as those of biases before a norm.
    """
    fast = copy.deepcopy(model)
    compile_blocks(fast, backend)
    for shape in shapes:
        plain, compiled = step(model, *shape, precision), step(fast, *shape, precision)
        largest = max(float(grad.abs().max()) for grad in plain[1:])
        assert len(plain) == len(compiled) > 10
        torch.testing.assert_close(compiled, plain, rtol=tolerance, atol=tolerance * largest)
    pools = [[b for name, b in each.named_buffers() if name.endswith("pool")] for each in (model, fast)]
    assert pools[0]
    torch.testing.assert_close(pools[1], pools[0], rtol=10 * tolerance, atol=10 * tolerance)
    return counters["stats"]["unique_graphs"]


def test_one_graph_serves_all_layers_and_lengths_and_draws_what_plain_blocks_draw():
    assert agree(nest("encoder.dropout_att=0"), SHAPES) == 1


def test_one_row_and_many_get_graphs_of_their_own():
    shapes = [(0.6, 2), (0.6, 1), (0.3, 16), (0.5, 1), (0.4, 20), (0.9, 2)]
    assert agree(nest(*DRY), shapes, backend="eager") <= 3


def test_chances_of_layer_drop_share_graphs():
    model = nest(*DRY, "encoder.depth=4", "encoder.layer_drop=0.3")
    assert agree(model, SHAPES, backend="eager") == 2  # of the first, never skipped, and of others


def test_recomputed_blocks_count_their_statistics_once():
    assert agree(nest(*DRY, "encoder.checkpoint_layers=true"), SHAPES) <= 2


def test_the_run_compiles_every_block_and_renames_no_weight():
    cfg = compose_config(["encoder=fastconformer_tiny", "train.compile=true"]).config
    plain = nest()
    model = objective_of(cfg)
    assert all(block._compiled_call_impl is not None for block in blocks(model))
    assert not any("_orig_mod" in name for name in model.state_dict())
    assert {name.split(".")[0] for name in model.state_dict()} == {
        name.split(".")[0] for name in plain.state_dict()
    }


def test_bf16_agrees():
    assert agree(nest(*DRY), SHAPES, torch.bfloat16, tolerance=5e-2) == 1
