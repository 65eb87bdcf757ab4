"""Several objectives on one encoder: the same gradients as apart, fewer passes, no parameter twice."""

from dataclasses import dataclass

import pytest
import torch
from hydra.core.config_store import ConfigStore

from research import registry, runs
from research.compose import compose_config
from research.conformance.case import speech
from research.errors import HarkError
from research.model import assemble, check
from research.training.seeds import seed_all

registry.load_plugins()


@pytest.fixture(scope="module", autouse=True)
def twin():
    """A second objective that masks and fills as NEST does."""

    class Twin(registry.find("objective", "nest")):
        @dataclass(kw_only=True)
        class Config(registry.find("objective", "nest").Config):
            pass

    registry.register("twin")(Twin)
    yield
    del registry._names["objective", "twin"]
    del ConfigStore.instance().repo["objective"]["twin.yaml"]


SMALL = (
    "data.train=[]", "encoder=fastconformer_tiny", "encoder.stride=4", "quantizer.codes=16", "masking.length=8",
    "encoder.dropout=0", "encoder.dropout_pre=0", "encoder.dropout_att=0",
)  # fmt: skip


def composed(*words):
    return compose_config([*SMALL, *words]).config


def passes(model, batch):
    """How often the encoder's first block runs."""
    ran = []
    hook = model.encoder.layers[0].register_forward_hook(lambda *_: ran.append(1))
    seed_all(0)
    loss = model(batch)
    hook.remove()
    return len(ran), loss


def alone(name, model, batch, *words):
    """Loss and encoder gradients of one part with the sum's weights."""
    single = assemble(composed(f"objective={name}", *words))
    single.encoder.load_state_dict(model.encoder.state_dict())
    own = model.parts[name].state_dict()
    single.load_state_dict(own, strict=False)
    if "mask_token" in dict(single.named_children()):
        single.mask_token.load_state_dict(model.parts[name].mask_token.state_dict())
    seed_all(0)
    loss = single(batch)
    loss.total.backward()
    return loss, {name: p.grad for name, p in single.encoder.named_parameters()}


def test_parts_that_mask_alike_share_one_pass_and_have_the_gradients_that_they_have_apart():
    model = assemble(composed("objective=sum", "objective.parts=[nest,twin]", "objective.weights=[1,0.5]"))
    batch = speech(model)
    count, loss = passes(model, batch)
    assert count == 1
    loss.total.backward()
    one, first = alone("nest", model, batch)
    two, second = alone("twin", model, batch)
    assert loss.count == one.count == two.count > 0
    assert torch.allclose(loss.total, one.total + 0.5 * two.total, rtol=1e-5)
    for name, p in model.encoder.named_parameters():
        if p.requires_grad:
            assert torch.allclose(p.grad, first[name] + 0.5 * second[name], rtol=1e-3, atol=1e-4), name


def test_parts_that_mask_elsewhere_or_fill_otherwise_have_a_pass_of_their_own():
    model = assemble(composed("objective=sum", "objective.parts=[nest,best_rq]"))
    assert passes(model, speech(model))[0] == 2


def test_what_is_shared_is_in_a_checkpoint_once():
    model = assemble(composed("objective=sum", "objective.parts=[nest,twin]"))
    names = list(model.state_dict())
    assert not [name for name in names if name.startswith("parts.") and ".encoder." in name]
    assert "encoder.layers.0.norm.weight" in names
    tokens = [name for name in names if "mask_token" in name]
    assert tokens == ["parts.nest.mask_token.vector"]
    seen = [id(p) for group in model.param_groups() for p in group["params"]]
    assert len(seen) == len(set(seen)) == sum(p.requires_grad for p in model.parameters())


def test_methods_are_left_as_they_were():
    model = assemble(composed("objective=sum", "objective.parts=[nest,twin]"))
    passes(model, speech(model))
    for module in (model.encoder, model.masking, *model.parts.values()):
        assert not {"embed", "context", "forward", "features", "hide"} & vars(module).keys()


def test_settings_of_parts_are_in_the_signature_and_read_back(tmp_path):
    words = ("objective=sum", "objective.parts=[nest,twin]", f"run.folder={tmp_path}")
    plain, changed = composed(*words), composed(*words, "+objective.settings.twin.threshold=0.5")
    assert plain.objective.settings["twin"]["threshold"] == 0.8
    assert runs.signature(plain) != runs.signature(changed)
    whole = compose_config([*SMALL, *words, "+objective.settings.twin.threshold=0.5"])
    path = runs.create(changed, whole.choices, whole.overrides)
    config = runs.load_config(path)
    assert config.objective == changed.objective
    assert assemble(config).parts["twin"].cfg.threshold == 0.5


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("objective.parts=[nest]", "name two or more"),
        ("objective.parts=[nest,nest]", "each once"),
        ("objective.parts=[nest,nst]", "did you mean 'nest'"),
        ("objective.weights=[1]", "give one for each"),
        ("+objective.settings.nest.treshold=1", "treshold"),
        ("+objective.settings.nst.threshold=1", "none of objective.parts; did you mean 'nest'"),
    ],
)
def test_a_sum_that_cannot_be_is_refused(word, says):
    with pytest.raises(HarkError, match=says):
        check(composed("objective=sum", word))
