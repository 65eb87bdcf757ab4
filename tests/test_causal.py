"""How far ahead encoders hear: no further than they say, and that far."""

import dataclasses

import pytest
import torch

from research import registry
from research.compose import compose_config
from research.contracts import Seq
from research.errors import HarkError
from research.interop.nemo import load
from research.interop.nemo_values import values_of
from research.nn import attention
from research.nn.attention import Positions, Window
from research.nn.causal import Convolutions, furthest
from research.nn.conformer import ConvNorm
from tests.test_nemo_parity import rewrite

registry.load_plugins()

CAUSAL, CENTRED = Convolutions.causal, Convolutions.centred
DIM = 16


def encoder(name, **changes):
    torch.manual_seed(0)
    config = dataclasses.replace(registry.config_of("encoder", name), **changes)
    return registry.build(config, dim_in=DIM).eval()


def heard(model, size):
    """The most frames ahead of itself that an encoder frame hears, by its gradients."""
    torch.manual_seed(1)
    feats = torch.randn(1, size * model.stride, DIM, requires_grad=True)
    out = model(Seq(feats, torch.tensor([size * model.stride]))).last.x[0]  # (T, D)
    most = 0
    for t in range(size):
        (grad,) = torch.autograd.grad((out[t] * torch.randn(out.size(-1))).sum(), feats, retain_graph=True)
        touched = grad[0].abs().amax(-1).nonzero()[:, 0]
        most = max(most, int(touched.max()) // model.stride - t)
    return most


@pytest.mark.parametrize("stride", [2, 4, 8])
@pytest.mark.parametrize("name", ["fastconformer_tiny", "conformer_tiny"])
@pytest.mark.parametrize(
    ("sees", "ahead"),
    [
        (((-1, 0), Window.sliding, CAUSAL), 0),
        (((5, 0), Window.sliding, CAUSAL), 0),
        (((5, 2), Window.sliding, CAUSAL), 4),
        (((5, 2), Window.sliding, CENTRED), 8),
        (((6, 2), Window.chunked, CAUSAL), 2),
        (((-1, 3), Window.chunked, CAUSAL), 3),
        (((3, 2), Window.chunked, CENTRED), 7),
        (((4, 3), Window.chunked, CENTRED), 9),
    ],
)
def test_conformers_hear_as_far_as_they_say(name, stride, sees, ahead):
    context, window, convolutions = sees
    changes = {"context": context, "window": window, "convolutions": convolutions}
    model = encoder(name, stride=stride, kernel=5, channels=8, **changes)
    assert model.ahead == ahead
    assert heard(model, 17) == ahead


@pytest.mark.parametrize("positions", list(Positions))
@pytest.mark.parametrize(
    ("sees", "layers", "ahead"),
    [
        (((-1, 0), Window.sliding, CAUSAL), 2, 0),
        (((5, 2), Window.sliding, CAUSAL), 1, 4),
        (((5, 2), Window.sliding, CENTRED), 2, 6),
        (((6, 2), Window.chunked, CAUSAL), 0, 2),
        (((6, 2), Window.chunked, CENTRED), 1, 3),
    ],
)
def test_transformers_hear_as_far_as_they_say(positions, sees, layers, ahead):
    context, window, convolutions = sees
    model = encoder(
        "transformer_tiny",
        position_kernel=4,  # reads one frame ahead
        position_layers=layers,
        positions=positions,
        context=context,
        window=window,
        convolutions=convolutions,
    )
    assert model.ahead == ahead
    assert heard(model, 14) == ahead


@pytest.mark.parametrize("positions", list(Positions))
@pytest.mark.parametrize("size", [64, 66, 150])
def test_chunks_are_the_same_computed_at_once_or_apart(size, positions, monkeypatch):
    model = encoder("fastconformer_tiny", context=(10, 4), window=Window.chunked, positions=positions)
    feats = Seq(torch.randn(2, size * 8, DIM), torch.tensor([size * 8, 200]))
    apart = model(feats).last
    monkeypatch.setattr(attention, "_CHUNK", 1000)  # frames computed at once
    whole = model(feats).last
    torch.testing.assert_close(apart.x[apart.valid], whole.x[whole.valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "changes", [{}, {"context": (3, -1)}, {"context": (3, 0), "conv_norm": ConvNorm.group}]
)
def test_what_hears_all_says_none(changes):
    assert encoder("fastconformer_tiny", convolutions=CAUSAL, **changes).ahead is None


@pytest.mark.parametrize("context", [(3, -1), (5, 2), (-2, 0)])
def test_chunks_that_cannot_be_are_refused(context):
    with torch.device("meta"), pytest.raises(HarkError, match=r"encoder\.context"):
        encoder("fastconformer_tiny", context=context, window=Window.chunked)


def test_streamed_chunks_are_those_of_the_whole():
    """A chunk's frames need nothing of what comes after: cut there, and they are the same."""
    model = encoder("fastconformer_tiny", context=(8, 3), window=Window.chunked, convolutions=CAUSAL)
    feats = torch.randn(1, 20 * 8, DIM)
    whole = model(Seq(feats, torch.tensor([160]))).last.x
    for chunks in range(1, 5):
        size = 4 * chunks
        cut = model(Seq(feats[:, : 8 * size], torch.tensor([8 * size]))).last.x
        torch.testing.assert_close(cut, whole[:, :size], rtol=0, atol=1e-5)


def test_layers_reach_on_from_where_layers_reached():
    assert furthest(lambda frame: frame + 3, 4, 1) == 12
    assert furthest(lambda frame: frame - frame % 5 + 4, 9, 5) == 4
    assert furthest(lambda frame: frame, 7, 1) == 0


def test_what_makes_a_model_stream_is_taken_over_and_given_back(tmp_path):
    streaming = {
        "att_context_style": "chunked_limited",
        "att_context_size": [6, 2],
        "conv_context_size": "causal",
    }
    model, _ = load(
        rewrite(tmp_path / "model.nemo", config=lambda values: values["encoder"].update(streaming))
    )
    assert model.encoder.ahead == 2
    chosen = ["encoder.window=chunked", "encoder.context=[6,2]", "encoder.convolutions=causal"]
    config = compose_config(["data.train=[]", "encoder=fastconformer_tiny", *chosen]).config
    said = values_of(config)["encoder"]
    assert {key: said[key] for key in streaming} == streaming
    config = compose_config(["data.train=[]", "encoder=fastconformer_tiny", "encoder.positions=alibi"]).config
    with pytest.raises(HarkError, match="has no word for alibi"):
        values_of(config)
