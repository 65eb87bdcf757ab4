"""Loss and gradients of whole objectives equal plain versions that share nothing with them but the networks."""

import pytest
import torch
from torch.nn import functional as F

from research import registry
from research.conformance.case import Case, speech
from research.nn import contrast as contrast_module
from tests.reference.masked import cross_entropy, masked_prediction, share_masked, stacked
from tests.reference.wav2vec import contrastive_loss, diversity_loss

registry.load_plugins()


class Same(torch.nn.Module):
    """One mask, whoever asks."""

    hides = True

    def __init__(self, masking):
        super().__init__()
        self.masking, self.drawn = masking, {}

    def forward(self, lengths, size):
        if size not in self.drawn:
            self.drawn[size] = self.masking(lengths, size)
        return self.drawn[size]

    def channels(self, x):
        return x


def model_of(name, *words):
    """A small objective without dropout, with a mask that stays."""
    model = Case("objective", name).model(*words).eval()
    model.masking = Same(model.masking)
    batch = speech(model)
    model(batch)  # the masks are drawn
    torch.manual_seed(3)
    return model, batch


def gradients(model, total):
    model.zero_grad()
    total.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def agree(model, loss, total, count):
    assert loss.count == count > 3
    assert torch.allclose(loss.total, total, rtol=1e-5)
    ours, plain = gradients(model, loss.total), gradients(model, total)
    assert ours.keys() == plain.keys()
    for name, grad in ours.items():
        assert torch.allclose(grad, plain[name], rtol=1e-4, atol=1e-5 * float(grad.abs().max() + 1)), name


@pytest.fixture
def distractors(monkeypatch):
    """What `contrast` draws, call by call."""
    calls, draw = [], contrast_module.draw
    monkeypatch.setattr(contrast_module, "draw", lambda *args: calls.append(draw(*args)) or calls[-1])
    return calls


def flat(drawn, counts):
    """Places in rows -> places among all masked frames; rows of one frame have none."""
    rows = [b for b, n in enumerate(counts) for _ in range(n)]
    starts = [sum(counts[:b]) for b in rows]
    found = [[start + int(p) for p in places] for start, places in zip(starts, drawn, strict=True)]
    return rows, [places if counts[b] > 1 else [] for b, places in zip(rows, found, strict=True)]


@pytest.mark.parametrize("name", ["nest", "best_rq"])
def test_nest_and_best_rq(name):
    model, batch = model_of(name, "quantizer.books=2", "quantizer.codes=16", "quantizer.dim=4")
    loss = model(batch)
    clean, noisy = model.frontend(batch.audio), model.frontend(batch.noisy)
    mask = model.masking.drawn[clean.x.size(1)]
    torch.manual_seed(3)
    filled = noisy.x.clone()
    noise = 0.1 * torch.randn(filled.shape)
    for b, s in mask.nonzero().tolist():
        filled[b, s] = model.mask_token.vector if name == "nest" else noise[b, s]
    hidden = model.encoder(noisy.replace(filled)).last.x
    q, head = model.quantizer, model.head
    books = {"projections": q.projection, "codebooks": q.codebook, "head": head}
    found = masked_prediction(hidden, clean.x, mask, model.encoder.stride, 0.8, **books)
    agree(model, loss, *found)


@pytest.mark.parametrize("name", ["wav2vec2", "w2v_bert"])
def test_wav2vec2_and_w2v_bert(name, distractors):
    model, batch = model_of(name)
    loss = model(batch)
    q = model.quantizer
    embedded = model.encoder.embed(model.frontend(batch.noisy))
    clean = model.encoder.embed(model.frontend(batch.audio))
    mask = model.masking.drawn[clean.x.size(1)]
    torch.manual_seed(3)
    filled = embedded.x.clone()
    noise = 0.1 * torch.randn(filled.shape)
    for b, t in mask.nonzero().tolist():
        filled[b, t] = model.mask_token.vector if name == "wav2vec2" else noise[b, t]
    encoded = model.encoder.context(embedded.replace(filled), (model.layer,))
    h, logits, vectors, ids = [], [], [], []
    for b, t in mask.nonzero().tolist():
        x = clean.x[b, t]
        x = (x - x.mean()) / (x.var(correction=0) + 1e-5).sqrt()
        scores = (q.score.weight @ x + q.score.bias).view(q.books, q.codes)
        best = [int(book.argmax()) for book in scores]
        vectors.append(torch.cat([q.codebook[g, v] for g, v in enumerate(best)]))
        h.append(model.project_context.weight @ encoded.layers[0][b, t] + model.project_context.bias)
        logits.append(scores)
        ids.append(torch.tensor(best))
    y = [model.project_target.weight @ v + model.project_target.bias for v in vectors]
    rows, drawn = flat(distractors[-1], mask.sum(1).tolist())
    total = contrastive_loss(torch.stack(h), torch.stack(y), rows, drawn, temperature=0.1, ids=ids)
    total = total + len(h) * 0.1 * diversity_loss(torch.stack(logits))
    if name == "w2v_bert":
        for k, (b, t) in enumerate(mask.nonzero().tolist()):
            said = (model.head.weight @ encoded.last.x[b, t] + model.head.bias).view(q.books, q.codes)
            total = total + sum(cross_entropy(said[g], int(ids[k][g])) for g in range(q.books)) / q.books
    agree(model, loss, total, len(h))


@pytest.mark.parametrize("name", ["mel_contrast", "mel_w2v_bert"])
def test_contrast_on_mel(name, distractors):
    model, batch = model_of(name, "objective.freq_masks=0")
    loss = model(batch)
    clean, noisy = model.frontend(batch.audio), model.frontend(batch.noisy)
    mask, r = model.masking.drawn[clean.x.size(1)], model.encoder.stride
    filled = noisy.x * ~mask[..., None]
    hidden = model.encoder(noisy.replace(filled)).last.x
    hit = [
        (b, t) for b in range(len(hidden)) for t in range(hidden.size(1)) if share_masked(mask[b], t, r) > 0.8
    ]
    counts = [sum(b == row for b, _ in hit) for row in range(len(hidden))]
    x = torch.stack([stacked(clean.x[b], t, r) for b, t in hit])
    contrast = model.heads["contrast"]
    h = torch.stack([contrast.last(F.relu(contrast.first(hidden[b, t]))) for b, t in hit])
    rows, drawn = flat(distractors[-1], counts)
    if name == "mel_contrast":
        total = contrastive_loss(h, model.target(x), rows, drawn, temperature=0.1)
        agree(model, loss, total, len(hit))
        return
    q = model.quantizer
    logits = q.score(x).view(len(x), q.books, q.codes)
    ids = logits.argmax(-1)
    y = torch.stack([torch.cat([q.codebook[g, v] for g, v in enumerate(row)]) for row in ids.tolist()])
    total = contrastive_loss(h, y, rows, drawn, temperature=0.1, ids=ids)
    total = total + len(hit) * model.cfg.diversity * diversity_loss(logits)
    for (b, t), (first, second) in zip(hit, ids.tolist(), strict=True):
        said = model.heads["predict"].last(hidden[b, t])
        total = total + 0.5 * cross_entropy(said, first + q.codes * second)
    agree(model, loss, total, len(hit))
