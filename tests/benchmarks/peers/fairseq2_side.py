"""fairseq2 0.8.1's side, run by its own Python: forward, loss, backward and AdamW of its wav2vec 2.0.

The model is of its `base` configuration at the given size, the optimizer's values are those of its recipe. The product
with codes is compiled, as it ships, and so needs a C++ compiler. Its w2v-BERT is not here because it does not run: the
loss refuses the shape of the model's own logits.
"""

import torch
from fairseq2.models.wav2vec2 import Wav2Vec2Config, create_wav2vec2_model
from fairseq2.nn import BatchLayout
from serving import Prepared, Work, clips, serve  # beside this file: hark is not installed here


def prepare(work: Work) -> Prepared:
    cfg = Wav2Vec2Config()
    encoder = cfg.encoder_config
    encoder.model_dim, encoder.ffn_inner_dim = work["dim"], 4 * work["dim"]
    encoder.num_encoder_layers, encoder.num_encoder_attn_heads = work["layers"], work["heads"]
    model = create_wav2vec2_model(cfg).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.01)
    audio, _ = clips(work)
    layout = BatchLayout.of(audio)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=work["dtype"] == "bf16"):
            loss, _ = model(audio, layout)
        loss.aggregate.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.aggregate.item()

    return model.parameters(), step


if __name__ == "__main__":
    serve(prepare)
