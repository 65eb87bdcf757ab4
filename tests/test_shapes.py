"""What operators without values give is remembered only where it must be the same again."""

import pytest
import torch

from research.compose import compose_config
from research.launch import convolution
from research.launch.predict import predict
from research.launch.shapes import Shapes

META = torch.device("meta")
aten = torch.ops.aten


@pytest.fixture
def x():
    return torch.empty(4, 6, device=META).t()  # (6, 4), columns first


def called_twice(func, *args, **kwargs):
    shapes = Shapes()
    first = shapes.call(func, args, kwargs)
    return shapes, first, shapes.call(func, args, kwargs)


@pytest.mark.parametrize(
    ("func", "rest"),
    [
        (aten.mul.Tensor, (2,)),
        (aten.sum.dim_IntList, ([0], True)),
        (aten.clone.default, ()),
        (aten._to_copy.default, ()),
        (aten.topk.default, (2,)),
    ],
)
def test_results_are_new_and_lie_as_before(func, rest, x):
    shapes, first, second = called_twice(func, x, *rest)
    assert len(shapes.known) == 1
    for a, b in zip(as_list(first), as_list(second), strict=True):
        assert (a.dtype, a.shape, a.stride()) == (b.dtype, b.shape, b.stride())
        assert a.untyped_storage()._cdata != b.untyped_storage()._cdata
        assert a.untyped_storage().nbytes() == b.untyped_storage().nbytes()


def as_list(result):
    return [result] if isinstance(result, torch.Tensor) else list(result)


def test_parts_of_what_is_given_are_not_remembered(x):
    flat = torch.empty(24, device=META)
    shapes, _, view = called_twice(aten._unsafe_view.default, flat, [4, 6])
    assert not shapes.known
    assert view.untyped_storage()._cdata == flat.untyped_storage()._cdata
    shapes, _, same = called_twice(aten.add_.Tensor, x, 1)
    assert not shapes.known
    assert same is x


def test_values_decide_where_there_are_any(x):
    for mask in (torch.tensor([True] * 6), torch.tensor([True, False] * 3)):
        shapes, _, picked = called_twice(aten.index.Tensor, x, [mask])
        assert picked.shape == (int(mask.sum()), 4)
        assert not shapes.known


@pytest.mark.parametrize("rest", ["", "train.precision=bf16 cluster.device=h100"])
def test_a_prediction_from_memory_is_the_same(rest, monkeypatch):
    cfg = compose_config(["encoder=fastconformer_tiny", *rest.split()]).config
    monkeypatch.setattr(convolution, "SHAPES", Shapes())
    first = predict(cfg, 3, 2, cfg.cluster.device)
    assert predict(cfg, 3, 2, cfg.cluster.device) == first
    monkeypatch.setattr(convolution, "SHAPES", Shapes())
    monkeypatch.setattr("research.launch.shapes.LIMIT", 0)
    assert predict(cfg, 3, 2, cfg.cluster.device) == first
