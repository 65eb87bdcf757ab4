"""wav2vec 2.0's loss is Hugging Face's, given the same hidden states, quantizer, masks and distractors."""

import pytest
import torch

from plugins.quantizers.gumbel import Gumbel
from research.nn import contrast as contrast_module
from research.nn.functional import select

transformers = pytest.importorskip("transformers")

ROWS, SAMPLES, NEGATIVES = 2, 8000, 5


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, conv_dim=(16, 16), conv_stride=(5, 64),
        conv_kernel=(10, 64), num_feat_extract_layers=2, num_codevectors_per_group=8, num_codevector_groups=2, codevector_dim=16,
        proj_codevector_dim=16, num_negatives=NEGATIVES, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2,
        hidden_dropout=0.0, attention_dropout=0.0, feat_proj_dropout=0.0, feat_quantizer_dropout=0.0, layerdrop=0.0,
    )  # fmt: skip
    return transformers.Wav2Vec2ForPreTraining(config).eval()


def quantizer_of(model):
    """Ours with their weights."""
    ours = Gumbel(Gumbel.Config(books=2, codes=8, dim=16), dim_in=16).eval()
    ours.score.load_state_dict(model.quantizer.weight_proj.state_dict())
    with torch.no_grad():
        ours.codebook.copy_(model.quantizer.codevectors.view(2, 8, 8))
    return ours


def test_loss_and_gradients_are_hugging_faces(theirs, monkeypatch):
    audio = torch.randn(ROWS, SAMPLES)
    frames = int(theirs._get_feat_extract_output_lengths(SAMPLES))
    mask = torch.zeros(ROWS, frames, dtype=torch.bool)
    mask[0, 3:9] = mask[1, 8:18] = True
    counts = mask.sum(1)
    places = [[i for i in range(int(n)) if i != j] for n in counts for j in range(int(n))]
    drawn = torch.stack(
        [torch.tensor(p)[torch.randint(len(p), (NEGATIVES,))] for p in places]
    )  # (M, K) in the row
    where = torch.zeros(ROWS, frames, NEGATIVES, dtype=torch.long)
    rows, times = mask.nonzero(as_tuple=True)
    for k, (b, t) in enumerate(zip(rows.tolist(), times.tolist(), strict=True)):
        where[b, t] = b * frames + mask[b].nonzero()[:, 0][drawn[k]]
    out = theirs(audio, mask_time_indices=mask, sampled_negative_indices=where)
    out.contrastive_loss.backward()
    grads = {name: p.grad.clone() for name, p in theirs.named_parameters() if p.grad is not None}
    theirs.zero_grad()

    encoded = theirs.wav2vec2(audio, mask_time_indices=mask)
    quantizer = quantizer_of(theirs)
    codes = quantizer(select(encoded.extract_features, mask))
    h = theirs.project_hid(select(encoded.last_hidden_state, mask))
    y = theirs.project_q(codes.vectors)
    monkeypatch.setattr(contrast_module, "draw", lambda *_: drawn)
    loss = contrast_module.contrast(h, y, counts, negatives=NEGATIVES, temperature=0.1, ids=codes.chosen)
    assert torch.allclose(loss.total, out.contrastive_loss, rtol=1e-5)
    loss.total.backward()
    table = quantizer.codebook.grad.reshape(theirs.quantizer.codevectors.shape)
    own = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    own |= {"quantizer.codevectors": table}
    assert own.keys() == grads.keys()
    for name, grad in grads.items():
        assert torch.allclose(own[name], grad, rtol=1e-3, atol=1e-5), name


def test_diversity_is_hugging_faces(theirs):
    """Theirs is of the softmax in training only; what they draw there has no say in it."""
    features = torch.randn(2, 20, 16)
    mask = torch.rand(2, 20) < 0.5
    theirs.quantizer.train()
    _, used = theirs.quantizer(features, mask_time_indices=mask)
    theirs.quantizer.eval()
    theirs.zero_grad()
    wanted = (16 - used) / 16
    wanted.backward()
    quantizer = quantizer_of(theirs)
    found = quantizer(select(features, mask)).penalty
    found.backward()
    assert torch.allclose(found, wanted, rtol=1e-5)
    assert torch.allclose(
        quantizer.score.weight.grad, theirs.quantizer.weight_proj.weight.grad, rtol=1e-4, atol=1e-7
    )
