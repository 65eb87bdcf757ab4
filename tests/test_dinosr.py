"""DinoSR and SpidR against their plain versions: loss, gradients, codebooks, the teacher; what stops when."""

import pytest
import torch

from plugins.objectives.dinosr import DinoSR
from plugins.objectives.spidr import SpidR
from research.compose import compose_config
from research.conformance.case import Case, part, speech
from research.conformance.tools import Fixed, student, train
from research.errors import HarkError
from research.model import assemble, check
from research.training.optimizer import adamw, end_step, set_lr
from tests.reference import dinosr, ema, spidr

TINY = ("data.train=[]", "encoder=fastconformer_tiny", "encoder.stride=4", "masking=span", "quantizer=ema")


def tiny(name, *overrides):
    """A model that drops nothing out and masks the middle of every row, and a batch of one row."""
    model = Case("objective", name).model("objective.layers=2", *overrides).eval()
    model.masking = Fixed()
    return model, part(speech(model), [1])


def plain_loss(model, batch, name):
    """The reference's loss of one utterance, with a graph through the real encoder."""
    z = model.encoder.embed(model.frontend(batch.noisy))
    mask = model.masking(z.lengths, z.x.size(1))
    h = model.encoder.context(model.hide(z, mask), model.top)
    with torch.no_grad():
        teacher = model.teacher.model(model.frontend(batch.audio), model.top).layers
    heads = [(head.weight, head.bias) for head in model.heads]
    rest = [layer[0] for layer in teacher], heads, [q.codebook for q in model.quantizers], mask[0].tolist()
    if name == "dinosr":
        return dinosr.loss(h.last.x[0], *rest)
    return spidr.loss([layer[0] for layer in h.layers], *rest)


def gradients(model, total):
    return torch.autograd.grad(total, [p for p in model.parameters() if p.requires_grad], allow_unused=True)


@pytest.mark.parametrize("name", ["dinosr", "spidr"])
def test_loss_and_gradients_are_the_plain_versions(name):
    model, batch = tiny(name)
    for p in model.teacher.parameters():  # another network than the student
        p.data.add_(torch.randn_like(p), alpha=0.05)
    loss = model(batch)
    wanted = plain_loss(model, batch, name)
    assert loss.count > 4
    assert abs(float((loss.total - wanted).detach())) < 1e-5 * float(wanted.detach())
    for ours, theirs in zip(gradients(model, loss.total), gradients(model, wanted), strict=True):
        assert (ours - theirs).abs().max() < 1e-5 * max(1, theirs.abs().max())


@pytest.mark.parametrize(("cls", "kept"), [(DinoSR, dinosr.kept), (SpidR, spidr.kept)])
def test_the_teacher_keeps_what_the_paper_says(cls, kept):
    """Steps of every phase of the schedules, on real parameters, each moved at random in between."""
    model, _ = tiny(cls.__name__.lower())
    start = [p.clone() for p in model.teacher.parameters()]
    plain = [p.double() for p in start]
    for step in (1, 2, 15_000, 29_999, 30_000, 100_000, 200_000, 200_001, 300_000):
        own = [p.detach() for p in model.encoder.parameters()]
        for p in own:
            p.add_(torch.randn_like(p))
        plain = [kept(step) * old + (1 - kept(step)) * p.double() for old, p in zip(plain, own, strict=True)]
        end_step(model, step)
    moved = [p.double() - first for p, first in zip(model.teacher.parameters(), start, strict=True)]
    for ours, theirs, first in zip(moved, plain, start, strict=True):
        assert (ours - (theirs - first)).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["dinosr", "spidr"])
def test_codebooks_follow_the_teachers_masked_frames(name):
    """Three steps of two micro-batches, against the plain update of what each quantizer read."""
    config = Case("objective", name).config("objective.layers=2", "train.batches=2")
    model = assemble(config)
    read = [[] for _ in model.quantizers]
    for own, q in zip(read, model.quantizers, strict=True):
        q.register_forward_hook(lambda _module, args, _out, own=own: own.append(args[0]))
    it = student(model, config)
    train(it, [speech(model, seed=k) for k in range(2)])  # where codes begin
    books = [list(q.codebook.clone()) for q in model.quantizers]
    numbers = [[0.0] * q.codes for q in model.quantizers]
    sums = [[0 * code for code in book] for book in books]
    for step in range(1, 4):
        for own in read:
            own.clear()
        train(it, [speech(model, seed=2 * step), speech(model, seed=2 * step + 1)], first=step)
        for q, book, s, n, own in zip(model.quantizers, books, sums, numbers, read, strict=True):
            ema.update(book, s, n, list(torch.cat(own)), 0.9)
            for v, number in enumerate(n):
                if number == 0:  # it begins again elsewhere
                    book[v] = q.codebook[v].clone()
            assert (q.codebook - torch.stack(book)).abs().max() < 1e-5
            assert sum(n) > 0


def test_heads_read_the_layers_that_the_methods_name():
    """A SpidR with one layer is a DinoSR with one; with two, its lower head reads the lower layer."""
    for layers, same in ((1, True), (2, False)):
        (one, batch), (other, _) = (
            tiny("dinosr", f"objective.layers={layers}"),
            tiny("spidr", f"objective.layers={layers}"),
        )
        other.load_state_dict(one.state_dict())
        assert torch.equal(one(batch).total, other(batch).total) is same


@pytest.mark.parametrize("name", ["dinosr", "spidr"])
def test_a_trained_frontend_stops_and_the_rest_goes_on(name):
    config = compose_config([*TINY, f"objective={name}", "objective.freeze=2", "frontend=conv_wave",
                             "frontend.channels=16", "quantizer.codes=8", "masking.length=4", "schedule=constant"]).config  # fmt: skip
    model = assemble(config)
    it = student(model, config)
    for step in range(4):
        before = {key: p.detach().clone() for key, p in model.named_parameters() if p.requires_grad}
        train(it, [speech(model, seed=step)], first=step)
        for key, p in model.named_parameters():
            if p.requires_grad:
                assert torch.equal(p, before[key]) is (key.startswith("frontend.") and step >= 2), (step, key)


def test_decay_is_left_out_for_vectors_of_the_frontend_too():
    model, _ = tiny("dinosr", "frontend=conv_wave", "frontend.channels=16")
    groups = adamw(model, Case("objective", "dinosr").config().optimizer).param_groups
    assert len(groups) == 4
    for group in groups:
        assert all((p.ndim < 2) is (group["weight_decay"] == 0.0) for p in group["params"])
    optimizer = torch.optim.AdamW(groups)
    set_lr(optimizer, 1.0, lambda *_: 1.0, 200_000, 400_000)
    assert sorted(group["lr"] for group in optimizer.param_groups) == [0.0, 0.0, 1.0, 1.0]


def test_what_cannot_work_is_refused():
    for override, says in {
        "quantizer=gumbel": "sends no gradient to its quantizers; type quantizer=ema",
        "quantizer=none": "needs one",
        "masking=none": "learns from masked frames",
        "objective.layers=0": "choose 1 layer or more",
    }.items():
        with pytest.raises(HarkError, match=says):
            check(compose_config([*TINY, "objective=dinosr", override]).config)


@pytest.mark.parametrize("quantizer", ["random_projection", "kmeans"])
def test_other_quantizers_can_give_the_targets(quantizer):
    config = compose_config([*TINY, "objective=spidr", f"quantizer={quantizer}", "quantizer.codes=16"]).config
    model = assemble(config)
    train(student(model, config), [speech(model)])
