"""wav2vec 2.0 and w2v-BERT: what reads what, and what is refused."""

import pytest
import torch

from research import registry
from research.compose import compose_config
from research.conformance.case import Case, speech
from research.conformance.tools import Fixed
from research.errors import HarkError
from research.model import assemble, check
from research.nn.functional import masked_ce

registry.load_plugins()


def made(*overrides, objective="w2v_bert"):
    model = Case("objective", objective).model(*overrides).eval()
    model.masking = Fixed()
    return model


def losses(model, batch):
    torch.manual_seed(0)
    return model(batch)


@pytest.mark.parametrize(
    ("name", "depth", "layer"), [("wav2vec2", 2, 2), ("w2v_bert", 2, 1), ("w2v_bert", 5, 2)]
)
def test_layer_of_the_contrast_is_the_last_or_half_way_up(name, depth, layer):
    assert made(f"encoder.depth={depth}", objective=name).layer == layer


def test_a_layer_that_the_encoder_has_not_is_refused_when_composed():
    with pytest.raises(HarkError, match=r"objective.layer=3: choose one of the encoder's layers, 1 to 2"):
        check(
            compose_config(
                ["objective=w2v_bert", "quantizer=gumbel", "encoder.depth=2", "objective.layer=3"]
            ).config
        )


def test_upper_layers_learn_from_the_masked_prediction_only():
    model = made("objective.prediction=0", "encoder.depth=2", "objective.layer=1")
    losses(model, speech(model)).total.backward()
    lower, upper = model.encoder.layers
    assert any(p.grad is not None and p.grad.any() for p in lower.parameters())
    assert not any(p.grad is not None and p.grad.any() for p in upper.parameters())


def test_targets_are_of_the_clean_signal():
    model = made()
    batch = speech(model)  # its second row is noisy
    seen = []
    model.quantizer.register_forward_hook(lambda _m, args, _o: seen.append(args[0]))
    losses(model, batch)
    batch.noisy, batch.changed = batch.audio, batch.changed[:0]
    losses(model, batch)
    assert torch.allclose(seen[0], seen[1], atol=1e-5)


def test_no_gradient_reaches_embed_through_targets_when_target_grad_is_0():
    grads = []
    for factor in (0.0, 0.5, 1.0):
        model = made(f"objective.target_grad={factor}", "objective.prediction=0", "objective.diversity=0")
        losses(model.train(), speech(model)).total.backward()  # draws carry gradients in training only
        grads.append(model.encoder.subsampling.out.weight.grad.clone())
    assert not torch.allclose(grads[0], grads[2], rtol=1e-3)
    assert torch.allclose(grads[1], (grads[0] + grads[2]) / 2, rtol=1e-3, atol=1e-6)


def test_feature_penalty_is_of_the_features_under_the_mask():
    """The middle half of every row is masked, in frames of four features each."""
    model = made("objective.feature_penalty=2", "encoder.stride=4")
    batch = speech(model)
    loss = losses(model, batch)
    feats, wanted = model.frontend(batch.audio), 0.0
    for x, length in zip(feats.x, feats.lengths.tolist(), strict=True):
        frames = -(-length // 4)
        for t in range(frames // 4, 3 * frames // 4):
            wanted += float(x[4 * t : 4 * t + 4].square().mean())
    without = losses(made("encoder.stride=4"), batch).total
    assert float(loss.stats["feature_penalty"].total) == pytest.approx(wanted, rel=1e-3)
    assert float((loss.total - without).detach()) == pytest.approx(2 * wanted, rel=1e-3)


def test_random_fill_is_another_vector_for_every_frame():
    model = made("objective.fill=random")
    z = model.encoder.embed(model.frontend(speech(model).audio))
    mask = model.masking(z.lengths, z.x.size(1))
    filled = model.fill(z, mask)
    assert torch.equal(filled.x[~mask], z.x[~mask])
    assert len(filled.x[mask].unique(dim=0)) == int(mask.sum())
    assert not hasattr(model, "mask_token")


def test_learned_fill_is_one_vector():
    model = made("objective.fill=learned")
    z = model.encoder.embed(model.frontend(speech(model).audio))
    mask = model.masking(z.lengths, z.x.size(1))
    assert len(model.fill(z, mask).x[mask].unique(dim=0)) == 1


@pytest.mark.parametrize("kind", ["layer", "instance"])
def test_normalised_latents_have_no_scale_and_ignore_padding(kind):
    model = made(f"objective.target_norm={kind}")
    z = model.encoder.embed(model.frontend(speech(model).audio))
    base = model.normalize(z)[z.valid]
    assert torch.allclose(model.normalize(z.replace(7 * z.x))[z.valid], base, atol=1e-2)
    litter = torch.where(z.valid[..., None], z.x, 100.0)
    assert torch.allclose(model.normalize(z.replace(litter))[z.valid], base, atol=1e-5)


def test_masked_prediction_is_of_the_quantizers_ids():
    """With heads that know the ids, the prediction is right everywhere, whatever was drawn."""
    model = made().train()
    found = []
    model.quantizer.register_forward_hook(lambda _m, _a, codes: found.append(codes.ids))

    class Oracle(torch.nn.Module):
        def cross_entropy(self, _h, ids):
            return masked_ce(
                100.0 * torch.nn.functional.one_hot(found[-1], model.quantizer.codes).float(), ids
            )

    model.head = Oracle()
    loss = losses(model, speech(model))
    assert float(loss.stats["acc"].total) == loss.count
    assert 0 < float(loss.stats["unigram_acc"].finish(loss.stats["unigram_acc"].total)) < 1


@pytest.mark.parametrize(("size", "millions"), [("xl", 600), ("xxl", 1000)])
def test_published_sizes(size, millions):
    model = check(compose_config([f"experiment=w2v_bert_{size}"]).config)
    count = sum(p.numel() for p in model.encoder.parameters()) / 1e6
    assert abs(count / millions - 1) < 0.08


def test_it_trains_with_fixed_codes_too():
    """A quantizer without a penalty serves as well."""
    cfg = compose_config(
        [
            "objective=w2v_bert",
            "encoder=fastconformer_tiny",
            "quantizer.codes=16",
            "masking=span",
            "masking.length=2",
        ]
    ).config
    model = assemble(cfg)
    loss = losses(model, speech(model))
    assert "penalty" not in loss.stats
    assert torch.isfinite(loss.total)
