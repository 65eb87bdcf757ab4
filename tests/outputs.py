"""An objective whose encoder gives what a test says: its loss, and what that depends on."""

import torch

from research import registry
from research.conformance.case import Case, speech
from research.contracts import Encoded, Seq


def scored(name, *overrides, seconds=(1.2, 0.9, 0.7), prepare=lambda model: None):
    """Model, its loss, clean frames per utterance, and leaves (T, D) per utterance in place of the encoder's outputs."""
    registry.load_plugins()
    model = Case("objective", name).model(*overrides).eval()
    prepare(model)
    batch = speech(model, seconds)
    clean = model.frontend(batch.audio)
    frames = -(-clean.lengths // model.encoder.stride)
    source = torch.Generator().manual_seed(1)
    leaves = [torch.randn(int(n), model.encoder.dim, generator=source).requires_grad_() for n in frames]
    padded = torch.nn.utils.rnn.pad_sequence(leaves, batch_first=True)
    vars(model.encoder)["forward"] = lambda feats, layers=(): Encoded(Seq(padded, frames))
    return model, model(batch), [x[:n] for x, n in zip(clean.x, clean.lengths, strict=True)], leaves, batch


def agree(ours, theirs, leaves):
    """Loss and its gradients to `leaves` are the same, to 1e-5."""
    assert abs(float(ours.detach()) - float(theirs.detach())) <= 1e-5 * max(1.0, abs(float(theirs.detach())))
    for a, b in zip(torch.autograd.grad(ours, leaves), torch.autograd.grad(theirs, leaves), strict=True):
        assert (a - b).abs().max() <= 1e-5 * max(1.0, float(b.abs().max()))
