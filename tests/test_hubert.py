"""HuBERT: its loss against the paper's written out, on hark's and on transformers' encoders, and where labels are from."""

import pytest
import torch

from plugins.objectives.hubert import HuBERT
from research import registry
from research.conformance.case import Case, speech
from research.conformance.tools import Fixed, student, train
from research.contracts import Parts, Seq
from research.errors import HarkError
from research.nn.functional import stack
from tests.hf_models import CASES, opened, random_model, waves
from tests.reference import hubert as paper

registry.load_plugins()


def made(*overrides, objective="hubert"):
    model = Case("objective", objective).model(*overrides).eval()
    model.masking = Fixed()
    return model


def compared(model, batch):
    """Loss of a batch, what its encoder gave, and the leaves of the head."""
    kept, context = [], model.encoder.context

    def keep(x, layers=()):
        encoded = context(x, layers)
        encoded.last.x.retain_grad()
        kept.append(encoded.last)
        return encoded

    vars(model.encoder)["context"] = keep
    loss = model(batch)
    loss.total.backward()
    vars(model.encoder).pop("context")
    return loss, kept[0]


def written_out(model, h, labels, lengths, alpha=1.0):
    """The paper's loss on copies of what the head reads and has."""
    head = [model.head.project.weight, model.head.project.bias, model.head.codes[0]]
    leaves = [x.detach().clone().requires_grad_() for x in (h.x, *head)]
    mask = Fixed()(h.lengths, h.x.size(1))
    total, count = paper.loss(
        leaves[0], labels, mask, lengths, leaves[1:], temperature=model.cfg.temperature, alpha=alpha
    )
    total.backward()
    return total, count, [leaf.grad for leaf in leaves]


def gradients(model, h):
    head = model.head
    return [h.x.grad, head.project.weight.grad, head.project.bias.grad, head.codes.grad[0]]


@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_loss_and_gradients_are_the_papers(alpha):
    model = made(f"objective.alpha={alpha}", "objective.dim=12")
    batch = speech(model)
    loss, h = compared(model, batch)
    total, count, wanted = written_out(
        model, h, batch.labels.x[..., 0].tolist(), batch.labels.lengths.tolist(), alpha
    )
    assert loss.count == count
    assert torch.allclose(loss.total, total, rtol=1e-5)
    for ours, theirs in zip(gradients(model, h), wanted, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_nothing_is_computed_for_frames_without_a_weight():
    model = made()
    batch = speech(model)
    seen = []
    model.head.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    loss = model(batch)
    assert seen == [loss.count]
    frames = batch.labels.lengths
    assert loss.count == int(Fixed()(frames, int(frames.max())).sum())


@pytest.mark.parametrize("case", ["hubert", "hubert-layer-pre", "wavlm-layer-pre"])
def test_the_loss_on_transformers_hidden_states_is_ours(case, tmp_path):
    pytest.importorskip("transformers")
    theirs = random_model(*CASES[case])
    theirs.save_pretrained(tmp_path)
    upstream, _ = opened(tmp_path)
    model = HuBERT(
        HuBERT.Config(codes=7, dim=8), parts=Parts(upstream.frontend, upstream.encoder, Fixed(), no_quantizer)
    ).eval()
    with torch.no_grad():
        model.mask_token.vector.copy_(theirs.masked_spec_embed)
    audio = waves().x[:1]  # one row: their norm over the group counts padding
    frames = model.frontend(Seq(audio, torch.tensor([audio.size(1)]))).lengths
    labels = torch.randint(7, (1, int(frames), 1))
    mask = Fixed()(frames, int(frames))
    hidden = theirs(audio, mask_time_indices=mask).last_hidden_state
    head = [model.head.project.weight, model.head.project.bias, model.head.codes[0]]
    wanted, count = paper.loss(hidden, labels[..., 0].tolist(), mask, frames, head, temperature=0.1)
    wanted.backward()
    token = theirs.masked_spec_embed.grad
    model.zero_grad()
    batch = speech(model, (1.0,))
    batch.audio = batch.noisy = Seq(audio, torch.tensor([audio.size(1)]))
    batch.labels = Seq(labels, frames)
    loss = model(batch)
    loss.total.backward()
    assert loss.count == count > 10
    assert torch.allclose(loss.total, wanted, rtol=1e-5)
    assert torch.allclose(model.mask_token.vector.grad, token, atol=1e-4 * float(token.abs().max()))


def no_quantizer(_):
    raise AssertionError


def test_a_label_more_or_less_is_left_out_and_other_hops_are_refused():
    model = made("objective.alpha=0.5")
    batch = speech(model)
    labels = batch.labels
    whole = model(batch)
    batch.labels = Seq(torch.cat([labels.x, labels.x[:, :1]], 1), labels.lengths + 1)
    assert torch.equal(model(batch).total, whole.total)
    batch.labels = Seq(labels.x[:, :-1], labels.lengths - 1)
    assert model(batch).count == whole.count - len(labels.lengths)
    batch.labels = Seq(labels.x.repeat_interleave(2, 1), labels.lengths * 2)
    n = labels.lengths[0]
    with pytest.raises(
        HarkError, match=rf"utterance 0: has {2 * n} labels, but the encoder gives {n} frames; .*hop"
    ):
        model(batch)


def test_a_row_without_labels_has_no_target():
    model = made()
    batch = speech(model)
    batch.labels.lengths[1] = 0
    frames = batch.labels.lengths
    assert model(batch).count == int(Fixed()(frames, int(frames.max())).sum())


@pytest.mark.parametrize("alpha", ["0", "1.5"])
def test_weights_that_are_none_are_refused(alpha):
    with pytest.raises(HarkError, match=r"objective.alpha=.*above 0 and at most 1"):
        made(f"objective.alpha={alpha}")


def online(*overrides):
    return made(
        "quantizer=best_rq",
        "quantizer.codes=16",
        "objective.refresh=2",
        *overrides,
        objective="hubert_online",
    )


def read_by(quantizer, model, batch):
    seen = []
    hook = quantizer.register_forward_hook(lambda _m, args, out: seen.append((args[0], out.ids)))
    with torch.no_grad():
        model(batch)
    hook.remove()
    return seen


def test_labels_are_of_the_frontends_frames_until_the_copy_is_refreshed_and_of_its_layer_then():
    model = online("objective.layer=1")
    model.masking = Fixed()
    batch = speech(model)
    feats = model.frontend(batch.audio)
    frames = -(-feats.lengths // model.encoder.stride)
    mask = Fixed()(frames, int(frames.max()))
    [(x, _)] = read_by(model.of_frames, model, batch)
    assert torch.equal(x, stack(feats.x, model.encoder.stride)[mask])
    assert read_by(model.of_layer, model, batch) == []
    it = student(model, Case("objective", "hubert_online").config("objective.refresh=2"))
    train(it, [speech(model, seed=k) for k in range(3)])  # the copy is of the second step
    copy = {name: value.clone() for name, value in model.teacher.state_dict().items()}
    assert any(
        not torch.equal(value, model.state_dict()[key.removeprefix("model.")]) for key, value in copy.items()
    )
    model.eval()
    [(x, _)] = read_by(model.of_layer, model, batch)
    frontend, encoder = model.teacher.model["frontend"], model.teacher.model["encoder"]
    with torch.no_grad():
        wanted = encoder(frontend(batch.audio), (1,)).layers[0][mask]
    assert torch.allclose(x, wanted, atol=1e-5)
    assert read_by(model.of_frames, model, batch) == []


def test_ids_of_online_labels_are_those_of_an_assignment_offline():
    """The nearest centroid of every frame, as a dump would hold it."""
    model = made("quantizer=kmeans", "quantizer.codes=6", objective="hubert_online")
    batch = speech(model)
    train(student(model, Case("objective", "hubert_online").config()), [batch])
    model.eval()
    [(x, ids)] = read_by(model.of_frames, model, batch)
    wanted = [paper.nearest(frame, model.of_frames.codebook) for frame in x]
    assert ids[:, 0].tolist() == wanted
    assert len(set(wanted)) > 2


def test_a_checkpoint_says_which_labels_are_next():
    model, other = online(), online()
    train(
        student(model, Case("objective", "hubert_online").config("objective.refresh=2")), [speech(model)] * 2
    )
    assert (model.late, other.late) == (True, False)
    other.load_state_dict(model.state_dict())
    assert other.late


def test_clusters_of_the_layer_begin_anew_with_every_refresh():
    model = made("quantizer=kmeans", "quantizer.codes=6", objective="hubert_online")
    called = []
    vars(model.of_layer)["refit"] = lambda: called.append(True)
    vars(model.of_frames)["refit"] = lambda: called.append(False)
    train(
        student(model, Case("objective", "hubert_online").config("objective.refresh=2")), [speech(model)] * 5
    )
    assert called == [True, True]


def test_what_cannot_work_is_refused():
    with pytest.raises(HarkError, match=r"objective.layer=3: choose one of the encoder's layers, 0 to 2"):
        online("objective.layer=3")
    with pytest.raises(HarkError, match=r"objective.refresh=0: choose a number of steps above 0"):
        online("objective.refresh=0")
    with pytest.raises(HarkError, match=r"trains no quantizer; type quantizer=kmeans"):
        made("quantizer=gumbel", objective="hubert_online")
