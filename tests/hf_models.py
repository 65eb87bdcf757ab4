"""Small random models of Hugging Face's, and what they give."""

import torch

from research.contracts import Seq
from research.interop import huggingface
from research.interop.load import open_upstream

SMALL = {
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 80,
    "conv_dim": [24] * 7,
    "num_conv_pos_embedding_groups": 4,
}
CONV = {"num_conv_pos_embeddings": 16}
FAR = {"num_buckets": 32, "max_bucket_distance": 40}
LAYER = {"feat_extract_norm": "layer"}
PRE = {"do_stable_layer_norm": True}
CASES = {
    "wav2vec2": ("Wav2Vec2", CONV),
    "wav2vec2-layer-pre-bias": ("Wav2Vec2", CONV | LAYER | PRE | {"conv_bias": True}),
    "wav2vec2-layer-post": ("Wav2Vec2", CONV | LAYER),
    "wav2vec2-pre-odd-kernel": ("Wav2Vec2", PRE | {"num_conv_pos_embeddings": 19}),
    "hubert": ("Hubert", CONV),
    "hubert-layer-pre": ("Hubert", CONV | LAYER | PRE),
    "wavlm": ("WavLM", CONV | FAR),
    "wavlm-layer-pre": ("WavLM", CONV | FAR | LAYER | PRE),
    "data2vec": ("Data2VecAudio", {}),
}
SECONDS = (1.5, 1.0, 0.6)


def library():
    import transformers

    return transformers


def random_model(name, options, head="Model"):
    """A model in which no two weights are alike, norms and gains included."""
    torch.manual_seed(0)
    config = getattr(library(), f"{name}Config")(**SMALL | options)
    model = getattr(library(), f"{name}{head}")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            spread = float(parameter.std()) if parameter.numel() > 1 else 0.0
            parameter.add_(torch.randn_like(parameter), alpha=0.2 * (spread or 1.0))
    return model


def opened(folder):
    source = huggingface.read(folder)
    return open_upstream(source), source


def waves():
    torch.manual_seed(1)
    lengths = torch.tensor([round(16_000 * seconds) for seconds in SECONDS])
    audio = Seq(0.3 * torch.randn(len(lengths), int(lengths.max())) + 0.05, lengths)
    return audio.replace(audio.x * audio.valid)


@torch.no_grad()
def theirs(model, audio, mask=None):
    return model(audio, attention_mask=mask, output_hidden_states=True).hidden_states


def far(ours, wanted):
    return max(float((a - b).abs().max()) for a, b in zip(ours, wanted, strict=True))
