"""Norms of the convolution module: padding never counts, and state moves once per step."""

import copy

import pytest
import torch
from torch import distributed, multiprocessing, nn

from research.nn.norm import BatchNorm, GroupNorm, LayerNorm, recomputing, update_running


def padded(*lengths, dim=6, seed=0):
    """Frames (B, T, C) with large values in the padding, and their mask."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), max(lengths), dim, generator=g) * 2 + 3
    valid = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.where(valid[..., None], x, 1e3), valid


def randomised(norm):
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in norm.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    return norm


def like_torch(norm, dim=6):
    other = nn.BatchNorm1d(dim)
    other.load_state_dict(norm.state_dict(), strict=False)
    return other


def test_batch_norm_is_torchs_on_the_valid_frames():
    norm = randomised(BatchNorm(6))
    other = like_torch(norm)
    x, valid = padded(9, 4, 1)
    x.requires_grad_()
    y, expected = norm(x, valid)[valid], other(x[valid])
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn(y.shape)
    grads = [torch.autograd.grad((z * weight).sum(), x)[0] for z in (y, expected)]
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-5)
    update_running([norm])
    torch.testing.assert_close(norm.running_mean, other.running_mean)
    torch.testing.assert_close(norm.running_var, other.running_var)
    torch.testing.assert_close(norm.eval()(x, valid)[valid], other.eval()(x[valid]), rtol=1e-4, atol=1e-5)


def test_forward_moves_no_state():
    norm = BatchNorm(6)
    before = copy.deepcopy(norm.state_dict())
    norm(*padded(9, 4))
    assert before.keys() == {"weight", "bias", "running_mean", "running_var"}
    for key, value in norm.state_dict().items():
        assert torch.equal(value, before[key])


def test_micro_batches_move_the_statistics_as_one_batch():
    whole, parts = BatchNorm(6), BatchNorm(6)
    x, valid = padded(9, 4, 7, 2)
    whole(x, valid)
    for rows in (slice(0, 1), slice(1, 4)):
        parts(x[rows], valid[rows])
    update_running([whole])
    update_running([parts])
    torch.testing.assert_close(parts.running_mean, whole.running_mean)
    torch.testing.assert_close(parts.running_var, whole.running_var)


def test_a_step_without_batches_moves_nothing():
    norm = BatchNorm(6)
    norm(*padded(9, 4))
    update_running([norm])
    before = copy.deepcopy(norm.state_dict())
    update_running([norm])
    norm.eval()(*padded(5))
    update_running([norm])
    for key, value in norm.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_batch_that_is_not_finite_leaves_no_trace():
    """The loop skips such a step, and the next one must not pay for it."""
    norm, clean = BatchNorm(6), BatchNorm(6)
    x, valid = padded(9, 4)
    norm(torch.full_like(x, torch.inf), valid)
    for each in (norm, clean):
        each(x, valid)
        update_running([each])
    assert torch.equal(norm.running_var, clean.running_var)


def test_repeated_forwards_count_once():
    norm, once = BatchNorm(6), BatchNorm(6)
    x, valid = padded(9, 4)
    norm(x, valid)
    once(x, valid)
    with recomputing():
        norm(2 * x, valid)
    assert torch.equal(norm.pool, once.pool)


def _rank(rank, store, results):
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    norms = [BatchNorm(6), BatchNorm(6)]
    x, valid = padded(9, 4, 7, 2)
    rows = slice(0, 1) if rank == 0 else slice(1, 4)
    norms[0](x[rows], valid[rows])
    norms[1](-x[rows], valid[rows])
    update_running(norms)
    results[rank] = [norm.running_var.tolist() + norm.running_mean.tolist() for norm in norms]
    distributed.destroy_process_group()


def test_two_ranks_move_the_statistics_as_one_batch(tmp_path):
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_rank, (tmp_path / "store", results), nprocs=2)
        ranks = dict(results)
    x, valid = padded(9, 4, 7, 2)
    norms = [BatchNorm(6), BatchNorm(6)]
    norms[0](x, valid)
    norms[1](-x, valid)
    update_running(norms)
    expected = [norm.running_var.tolist() + norm.running_mean.tolist() for norm in norms]
    assert ranks[0] == ranks[1]
    torch.testing.assert_close(torch.tensor(ranks[0]), torch.tensor(expected))


def test_group_norm_is_torchs_on_each_utterance():
    norm = randomised(GroupNorm(6, 3))
    other = nn.GroupNorm(3, 6)
    other.load_state_dict(norm.state_dict())
    x, valid = padded(9, 4, 1)
    y = norm(x, valid)
    for row, source, length in zip(y, x, valid.sum(1), strict=True):
        expected = other(source[:length].T[None])[0].T
        torch.testing.assert_close(row[:length], expected, rtol=1e-4, atol=1e-4)


def test_layer_norm_is_torchs():
    norm = randomised(LayerNorm(6))
    other = nn.LayerNorm(6)
    other.load_state_dict(norm.state_dict())
    x, valid = padded(9, 4)
    assert torch.equal(norm(x, valid), other(x))


@pytest.mark.parametrize("norm", [BatchNorm(6), LayerNorm(6), GroupNorm(6, 3)])
def test_no_valid_frame_gives_no_nan(norm):
    x = torch.randn(2, 5, 6, requires_grad=True)
    y = norm(x, torch.zeros(2, 5, dtype=torch.bool))
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("norm", [BatchNorm(6), GroupNorm(6, 3)])
def test_statistics_are_fp32_under_autocast(norm):
    x, valid = padded(9, 4)
    x = torch.where(valid[..., None], 100 + 0.1 * x, 1e3).bfloat16()
    expected = norm(x.float(), valid)
    with torch.autocast("cpu", torch.bfloat16):
        y = norm(x, valid)
    assert y.dtype is torch.bfloat16
    torch.testing.assert_close(y[valid].float(), expected[valid], rtol=1e-2, atol=1e-2)
