"""The classifier: what is trained, what stays still, and what is refused."""

import json

import pytest
import torch

from plugins.encoders.fastconformer import FastConformer
from plugins.frontends.log_mel import LogMel
from research.classification.command import compose
from research.classification.representations import Origins
from research.classification.run import best
from research.classification.task import classifier
from research.contracts import Batch, Seq
from research.errors import HarkError
from research.model import Upstream
from research.nn.frames import Frames
from research.training.optimizer import adamw, end_step

CLASSES = 3


def upstream(**extra):
    torch.manual_seed(0)
    cfg = FastConformer.Config(dim=16, depth=2, heads=2, channels=4, dropout=0.5, **extra)
    frontend = LogMel(LogMel.Config())
    return Upstream(frontend, FastConformer(cfg, dim_in=frontend.dim))


def config(*overrides):
    return compose(["upstream=none", "label=lang", "head.dim=8", *overrides]).config


def task(*overrides, layers=(0, 1, 2), of=None):
    return classifier(config(*overrides), of or upstream(), layers, CLASSES)


def batch(rows=4, seed=0):
    torch.manual_seed(seed)
    lengths = torch.tensor([9600, 8000, 7000, 6400][:rows])
    audio = Seq(0.1 * torch.randn(rows, 9600), lengths)
    labels = Seq(torch.randint(CLASSES, (rows, 1, 1)), torch.ones(rows, dtype=torch.long))
    return Batch.clean(audio.replace(audio.x * audio.valid), labels=labels)


def steps(model, first, last, optimizer):
    """Take optimizer steps as the loop does."""
    for step in range(first, last):
        if step in model.stages:
            model.enter(step)
        torch.manual_seed(step)
        model(batch(seed=step)).total.backward()
        optimizer.step()
        end_step(model, step + 1)
        optimizer.zero_grad()


def fit(model, count):
    optimizer = adamw(model, config().optimizer)
    model.enter(0)
    model.train()
    steps(model, 0, count, optimizer)
    return model


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(one, two):
    return all(torch.equal(value, two[name]) for name, value in one.items())


# --- a frozen encoder


def test_the_aggregation_is_trained_while_the_encoder_is_frozen():
    model = task()
    before = model.aggregation.weights.detach().clone()
    assert any(p is model.aggregation.learned for group in model.param_groups() for p in group["params"])
    fit(model, 3)
    assert not torch.equal(model.aggregation.weights, before)


def test_a_frozen_encoder_stays_as_it_is_whatever_is_called():
    encoder = upstream()
    before = state(encoder)
    model = fit(task(of=encoder), 4)
    model.train()
    assert model.training
    assert not any(module.training for module in encoder.modules())
    assert same(before, state(encoder))
    assert all(p.grad is None for p in encoder.parameters())


def test_no_gradient_and_no_dropout_go_through_a_frozen_encoder():
    model = task().train()
    first, second = (model.encode(batch().audio) for _ in range(2))
    assert not any(layer.requires_grad for layer in first.layers)
    assert all(torch.equal(x, y) for x, y in zip(first.layers, second.layers, strict=True))


def test_a_frozen_encoder_is_in_no_checkpoint():
    assert not any("encoder" in name or "frontend" in name for name in task().state_dict())
    assert any(name.startswith("encoder.") for name in task("tune.start=2").state_dict())


@pytest.mark.parametrize("tuned", [False, True])
def test_spec_augment_is_active_in_training_whether_or_not_the_encoder_is_frozen(tuned):
    masks = ("spec_augment.time_masks=5", "spec_augment.time_width=0.2")
    model = task(*masks, *(["tune.start=0"] if tuned else []))
    model.enter(0)
    audio = batch().audio

    def last():
        torch.manual_seed(1)
        return model.encode(audio).last.x

    model.train()
    model.upstream.encoder.eval()  # so that nothing but the masks differs
    masked = last()
    assert not torch.equal(masked, last_of(model, audio))
    assert torch.equal(masked, last())


def last_of(model, audio):
    model.eval()
    clean = model.encode(audio).last.x
    model.train()
    model.upstream.encoder.eval()
    return clean


def test_training_hears_the_augmented_signal_and_validation_the_clean_one():
    model, heard = task(), batch()
    heard.noisy = heard.audio.replace(torch.zeros_like(heard.audio.x))
    clean = model.eval()(batch()).total
    assert torch.equal(model(heard).total, clean)
    assert not torch.equal(model.train()(heard).total, clean)


# --- layers


@pytest.mark.parametrize(
    "aggregation", ["max", "mean", "concat", "last", "weighted_sum", "weighted_sum_norm"]
)
@pytest.mark.parametrize("layers", [(0, 1, 2), (2,), (2, 0)])
def test_every_aggregation_takes_any_layers(aggregation, layers):
    """All n + 1 of them too: layer 0 is what the first block reads."""
    loss = task(f"aggregation={aggregation}", layers=layers).train()(batch())
    loss.total.backward()
    assert loss.total.isfinite()


@pytest.mark.parametrize(
    ("asked", "given"), [("all", (0, 1, 2)), ("last", (2,)), ([2, 0], (2, 0)), (1, (1,))]
)
def test_layers_are_all_or_the_last_or_a_list(asked, given):
    cfg = config(f"upstream.layers={asked}")
    assert Origins(cfg, None).layers("pretrained", range(3)) == given
    assert Origins(cfg, None).layers("log_mel", [0]) == (0,)


@pytest.mark.parametrize("asked", ["[3]", "first", "[]", "[1,1]", "[-1]"])
def test_a_layer_that_is_not_there_is_refused(asked):
    with pytest.raises(HarkError, match=r"upstream\.layers"):
        Origins(config(f"upstream.layers={asked}"), None).layers("pretrained", range(3))


def test_a_bare_frontend_is_one_layer():
    frontend = LogMel(LogMel.Config())
    model = task(of=Upstream(frontend, Frames(frontend.dim)), layers=(0,))
    audio = batch().audio
    assert torch.equal(model.encode(audio).layers[0], model.upstream.frontend(audio).x)
    assert fit(model, 2).tuning is False


# --- a tuned encoder


def test_a_tuned_run_is_the_frozen_one_until_its_step_and_differs_in_the_encoder_after():
    frozen, tuned = upstream(), upstream()
    still, moving = task(of=frozen), task("tune.start=3", of=tuned)
    optimizers = [adamw(model, config().optimizer) for model in (still, moving)]
    for model in (still, moving):
        model.enter(0)
        model.train()
    for model, optimizer in zip((still, moving), optimizers, strict=True):
        steps(model, 0, 3, optimizer)
    assert same(state(frozen), state(tuned))
    assert same(state(still), state(moving))
    for model, optimizer in zip((still, moving), optimizers, strict=True):
        steps(model, 3, 5, optimizer)
    assert not same(state(frozen), state(tuned))
    assert same(state(still.upstream.frontend), state(moving.upstream.frontend))
    assert moving.encoder.training


def test_the_encoder_has_its_own_learning_rate():
    model = task("tune.start=0", "tune.lr_scale=0.01")
    inside = {id(p) for p in model.encoder.parameters()}
    for group in adamw(model, config().optimizer).param_groups:
        assert {id(p) in inside for p in group["params"]} == {group["lr_scale"](0) == 0.01}
    assert sum(len(group["params"]) for group in model.param_groups()) == len(list(model.parameters()))


def test_entering_a_stage_leaves_no_trace_in_batch_norm():
    """A run that resumes at the stage enters it twice."""
    states = []
    for times in (1, 2):
        model = task("tune.start=0", of=upstream())
        model.train()
        for _ in range(times):
            model.enter(0)
        end_step(model, 1)
        states.append(state(model))
    assert same(*states)


def test_layers_above_the_deepest_that_is_read_are_not_trained():
    """A rank would wait for their gradients."""
    model = task("tune.start=0", layers=(1,))
    model.enter(0)
    model.train()
    model(batch()).total.backward()
    trained = {name for name, p in model.encoder.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in model.encoder.named_parameters() if p.grad is not None}
    assert 0 < len(trained) < len(list(model.encoder.parameters()))


# --- parts that do not fit


@pytest.mark.parametrize("wrong", [("criterion=ctc",), ("head=bilstm_ctc", "head.units=4", "head.proj=4")])
def test_a_head_that_the_criterion_cannot_read_is_refused(wrong):
    with pytest.raises(HarkError, match="one vector per"):
        compose(["upstream=none", "label=text", *wrong])


# --- what is typed


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["upstream=x"], "no label is named: type label=KEY"),
        (["upstream=x", "label=lang", "heads=linear"], "unknown key 'heads'; did you mean 'head'?"),
        (["upstream=x", "label=lang", "tune.strat=1"], "did you mean 'tune.start'?"),
        (["upstream=x", "label=lang", "objective=nest"], "unknown key 'objective'"),
        (["upstream=x", "label=lang", "classify=nemo"], "no classify is called 'nemo'"),
        (["upstream=x", "label=lang", "baselines=[log_mell]"], "did you mean 'log_mel'?"),
        (["upstream=x", "label=lang", "seeds=1"], "seeds=1: an interval takes at least 2"),
        (["upstream=x", "label=lang", "augmentation=noise"], "data.noise names no manifest"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(overrides, words):
    with pytest.raises(HarkError) as error:
        compose(overrides)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


# --- choosing


def test_valid_chooses_the_best_checkpoint_that_was_kept(tmp_path):
    records = [{"step": s, "split": "valid", "error": e} for s, e in ((1, 0.1), (2, 0.3), (3, 0.3), (4, 0.5))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    for step in (2, 3, 4):
        (tmp_path / "checkpoints" / f"step_{step}").mkdir(parents=True)
    found = best(config(), tmp_path)
    assert (found.step, found.value) == (2, 0.3)
