"""data2vec: loss and gradients against the plain version and against Hugging Face's encoder; the teacher's way."""

import pytest
import torch

from research import registry, runs
from research.compose import compose_config
from research.conformance.case import Case, speech
from research.conformance.tools import Fixed, student, train
from research.contracts import Batch, Parts, Seq
from research.engine.weights import MODEL
from research.errors import HarkError
from research.interop.initialise import initialise
from research.model import assemble, check
from research.nn.regression import instance_norm, regress
from research.nn.teacher import Teacher
from research.training.stats import StatBag
from tests.hf_models import CASES, opened, random_model, waves
from tests.reference import data2vec as reference

registry.load_plugins()
CASE = Case("objective", "data2vec")


def moved_apart(objective):
    """The teacher is no longer the student, so that nothing can stand in for the other."""
    with torch.no_grad():
        for parameter in objective.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return objective


def steady(*overrides):
    """A model in evaluation in which every mask is the middle half."""
    objective = moved_apart(CASE.model(*overrides)).eval()
    objective.masking = Fixed()
    return objective


def rows(values, lengths):
    """Each row up to its end: (B, T, D) -> list of (T, D)."""
    return [row[:length] for row, length in zip(values, lengths.tolist(), strict=True)]


def plain_loss(objective, batch, beta=0.0):
    """The plain version on what the student and the teacher give."""
    clean, noisy = objective.features(batch)
    z, seen = objective.encoder.embed(noisy), objective.encoder.embed(clean)
    mask = objective.masking(z.lengths, z.x.size(1))
    h = objective.encoder.context(z.replace(torch.where(mask[..., None], objective.mask_token.vector, z.x)))
    with torch.no_grad():
        depth = objective.encoder.depth
        layers = objective.teacher.model.context(seen, range(1, depth + 1)).layers
    tops = zip(*(rows(layer, z.lengths) for layer in layers), strict=True)
    masks = [row.nonzero()[:, 0].tolist() for row in mask]
    head = objective.head
    return reference.loss(
        rows(h.last.x, z.lengths), [list(top) for top in tops], masks, (head.weight, head.bias), beta
    )


@pytest.mark.parametrize("beta", [0.0, 0.7])
def test_loss_and_gradients_are_the_papers(beta):
    objective = steady(f"objective.beta={beta}")
    batch = speech(objective, (0.6, 0.4))
    trained = [p for p in objective.parameters() if p.requires_grad]
    loss = objective(batch)
    ours = torch.autograd.grad(loss.total, trained)
    wanted = plain_loss(objective, batch, beta)
    theirs = torch.autograd.grad(wanted, trained)
    assert loss.count > 0
    assert float(loss.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()) + 1e-7)


def test_instance_norm_knows_no_padding_and_is_fp32():
    x = 3 * torch.randn(3, 7, 4) + 1
    lengths = torch.tensor([7, 4, 1])
    seq = Seq(x.double().to(torch.bfloat16), lengths)
    given = instance_norm(seq.x, seq.valid)
    assert given.dtype == torch.float32
    for row, length in enumerate(lengths.tolist()):
        wanted = reference.instance_norm(seq.x[row, :length].float())
        assert torch.allclose(given[row, :length], wanted, atol=1e-5)
    assert not given[1, 4:].any()


def logged(loss):
    bag = StatBag(torch.device("cpu"))
    bag.add(loss.stats)
    return bag.pop(lambda _: None)


def test_always_predicting_the_mean_target_scores_target_var():
    y = torch.randn(50, 8) * torch.arange(1.0, 9.0) + 2
    mean = y.mean(0).expand_as(y)
    values = logged(regress(mean, y))
    assert values["mse"] == pytest.approx(values["target_var"], rel=1e-5)
    assert values["target_var"] == pytest.approx(float(y.var(0, unbiased=False).mean()), rel=1e-5)
    assert values["pred_var"] == pytest.approx(0.0, abs=1e-4)
    assert logged(regress(y, y))["mse"] == 0


def test_the_teacher_keeps_what_the_ramp_says_and_only_after_steps():
    overrides = ("objective.keep.start=0.5", "objective.keep.end=0.9", "objective.keep.steps=2")
    objective = moved_apart(CASE.model(*overrides))
    config = CASE.config(*overrides)
    wanted = {name: value.clone() for name, value in objective.teacher.model.named_parameters()}
    it = student(objective, config)
    for step, keep in enumerate((0.7, 0.9, 0.9)):
        train(it, [speech(objective, seed=step)], first=step)
        wanted = reference.follow(wanted, dict(objective.encoder.named_parameters()), keep)
        for name, value in objective.teacher.model.named_parameters():
            assert torch.allclose(value, wanted[name], atol=1e-6), name


def test_statistics_of_the_teacher_are_those_of_the_student():
    objective = CASE.model()
    before = {name: value.clone() for name, value in objective.teacher.model.named_buffers()}
    train(student(objective, CASE.config()), [speech(objective, seed=k) for k in range(3)])
    own = dict(objective.encoder.named_buffers())
    assert any("running_mean" in name for name in own)
    for name, value in objective.teacher.model.named_buffers():
        assert torch.equal(value, own[name]), name
        assert "pool" in name or not torch.equal(value, before[name]), name


def test_a_teacher_hears_whole_utterances_with_nothing_at_chance():
    objective = CASE.model("encoder.dropout=0.5").train()
    assert not any(module.training for module in objective.teacher.model.modules())
    clean = objective.frontend(speech(objective).audio)
    z = objective.encoder.embed(clean)
    assert torch.equal(objective.targets(z), objective.targets(z))


def test_weights_that_init_gives_the_encoder_are_the_teachers_too(tmp_path):
    composed = compose_config(["objective=data2vec", *CASE.cls.example, f"run.folder={tmp_path}"])
    path = runs.create(composed.config, composed.choices, composed.overrides)
    model, untouched = assemble(composed.config), assemble(composed.config).encoder.state_dict()
    for step in (1, 2):
        file = path / "checkpoints" / f"step_{step}" / MODEL
        file.parent.mkdir(parents=True)
        torch.save({name: value + step for name, value in model.state_dict().items()}, file)
    first = {"path": str(path), "step": 1, "include": ["encoder.*"]}
    for init, ahead in ((first, 1), ([first, {"path": str(path), "step": 2, "include": ["teacher.*"]}], 2)):
        composed.config.init = init
        model = assemble(composed.config)
        initialise(model, composed.config)
        assert all(torch.equal(v, untouched[k] + 1) for k, v in model.encoder.state_dict().items())
        assert all(torch.equal(v, untouched[k] + ahead) for k, v in model.teacher.model.state_dict().items())


def test_what_cannot_work_is_refused():
    for override, words in {
        "objective.layers=0": "choose 1 layer or more",
        "objective.keep.end=1.5": "choose shares from 0 to 1",
        "masking=none": "learns from masked frames",
        "quantizer=gumbel": "type quantizer=none",
    }.items():
        others = [o for o in CASE.cls.example if o.split("=")[0] != override.split("=")[0]]
        others = [o for o in others if not o.startswith(override.split("=")[0] + ".")]
        with pytest.raises(HarkError, match=words):
            check(compose_config(["data.train=[]", "objective=data2vec", *others, override]).config)


def test_a_shallow_encoder_gives_all_of_its_layers():
    assert list(CASE.model("objective.layers=8").top) == [1, 2]
    assert list(CASE.model("objective.layers=1").top) == [2]


def test_loss_and_gradients_with_hugging_faces_encoder(tmp_path):
    """Its own masked pass for the student, its own hidden states for the teacher; the plain loss on top."""
    pytest.importorskip("transformers")
    name, options = CASES["data2vec"]
    theirs = random_model(name, options | {"mask_time_prob": 0.5})
    theirs.save_pretrained(tmp_path)
    upstream, _ = opened(tmp_path)
    masking = Fixed()
    parts = Parts(upstream.frontend, upstream.encoder, masking, lambda dim: None)
    torch.manual_seed(2)
    objective = registry.build(registry.find("objective", "data2vec").Config(layers=2), parts=parts).eval()
    objective.mask_token.vector.data.copy_(theirs.masked_spec_embed)

    audio = waves().x[:2, :9600]
    batch = Batch.clean(Seq(audio, torch.tensor([9600, 9600])))
    loss = objective(batch)
    loss.total.backward()

    with torch.no_grad():
        layers = theirs(audio, output_hidden_states=True).hidden_states[-2:]
    lengths = torch.tensor([layers[0].size(1)] * 2)
    mask = masking(lengths, layers[0].size(1))
    h = theirs(audio, mask_time_indices=mask).last_hidden_state
    tops = [[layer[row] for layer in layers] for row in range(2)]
    masks = [row.nonzero()[:, 0].tolist() for row in mask]
    head = objective.head.weight.detach(), objective.head.bias.detach()
    wanted = reference.loss(h, tops, masks, head)
    wanted.backward()
    assert float(loss.total.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
    for one, other in [
        (objective.mask_token.vector, theirs.masked_spec_embed),
        (objective.encoder.projection.weight, theirs.feature_projection.projection.weight),
        (
            objective.encoder.layers[1].up.weight,
            theirs.encoder.layers[1].feed_forward.intermediate_dense.weight,
        ),
        (objective.encoder.positions[0].conv.weight, theirs.encoder.pos_conv_embed.layers[0].conv.weight),
    ]:
        assert torch.allclose(one.grad, other.grad, rtol=1e-3, atol=1e-4 * float(other.grad.abs().max()))


def test_a_teacher_follows_whatever_it_is_of():
    line = torch.nn.Linear(2, 2)
    teacher = Teacher(line)
    with torch.no_grad():
        line.weight.add_(1.0)
    teacher.follow(line, keep=0.75)
    assert torch.allclose(line.weight - teacher.model.weight, torch.full((2, 2), 0.75))
    teacher.follow(line, keep=0.0)
    assert torch.equal(line.weight, teacher.model.weight)
    assert not any(p.requires_grad for p in teacher.parameters())
