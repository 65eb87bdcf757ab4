"""Teachers begin as their students do when `init=` gives these weights, and stay in eval mode."""

import pytest
import torch

from research import registry
from research.conformance.case import Case
from research.nn.teacher import Teacher

registry.load_plugins()


def model_of(name):
    words = ["+objective.settings.data2vec.layers=2"] if name == "sum" else []
    words += ["objective.parts=[nest,data2vec]"] if name == "sum" else []
    return Case("objective", name).model(*words)


@pytest.mark.parametrize("name", ["data2vec", "data2vec2", "dinosr", "spidr", "hubert_online", "sum"])
@pytest.mark.parametrize("own", [False, True])
def test_teachers_begin_with_given_weights(name, own):
    model = model_of(name)
    (teacher,) = (module for module in model.modules() if isinstance(module, Teacher))
    (prefix,) = (key for key, module in model.named_modules() if module is teacher)
    given = [f"encoder.{key}" for key, _ in model.encoder.named_parameters()]
    with torch.no_grad():
        for p in model.encoder.parameters():
            p.add_(1.0)
    model.initialised([*given, f"{prefix}.model.norm.weight"] if own else given)
    copy = teacher.model["encoder"] if name == "hubert_online" else teacher.model
    same = [torch.equal(p, q) for p, q in zip(copy.parameters(), model.encoder.parameters(), strict=True)]
    assert all(same) != own
    assert any(same) != own
    assert not teacher.followed


def test_teachers_hear_without_dropout():
    model = model_of("data2vec").train()
    assert not any(module.training for module in model.teacher.model.modules())
