"""SpeechBrain 1.1.2's side, run by its own Python: a batch of `Brain.fit_batch` with its modules for SSL.

Its recipes stand in its repository and not in its package, so what their brains compute is written down here with the
package's own modules and the values of their YAML; but inner widths are 4 times the outer ones, and the convolutions of
BEST-RQ have 64 channels each and no norms, as hark's. Masks are made beforehand, as by the workers of their loaders, and
audio is taken as normalised.
"""

from itertools import cycle
from typing import Any

import speechbrain as sb
import torch
from serving import Prepared, Work, clips, serve  # beside this file: hark is not installed here
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models import BESTRQ, wav2vec
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
from speechbrain.lobes.models.transformer import TransformerASR
from speechbrain.lobes.models.transformer.Transformer import TransformerEncoder
from speechbrain.nnet.linear import Linear
from speechbrain.nnet.losses import ContrastiveLoss
from speechbrain.nnet.quantisers import RandomProjectionQuantizer
from speechbrain.processing.features import InputNormalization
from torch import Tensor, nn
from torch.nn import functional as F

MASKS = 8  # made beforehand, used in turn
STRIDE = 4  # mel frames to an encoder frame of BEST-RQ


class Wav2Vec2(sb.Brain):
    """wav2vec2_base.yaml and the brain beside it."""

    clip, optimizer_values = 100.0, {"lr": 5e-4, "weight_decay": 0.01, "eps": 1e-6}

    @staticmethod
    def build(work: Work) -> dict[str, nn.Module]:
        encoder = TransformerEncoder(
            num_layers=work["layers"], nhead=work["heads"], d_model=work["dim"], d_ffn=4 * work["dim"], dropout=0.1,
            layerdrop_prob=0.05, normalize_before=True, activation=nn.GELU,
        )  # fmt: skip
        return {
            "latents": wav2vec.W2VLatentExtractor(),
            "encoder": wav2vec.EncoderWrapper(512, work["dim"], encoder, dropout_encoder_input=0.1),
            "project": nn.Linear(work["dim"], 256),
            "quantizer": wav2vec.W2VTargetQuantiser(512, 256),
        }

    def mask(self, lengths: Tensor) -> Tensor:
        frames = self.modules.latents.get_output_lengths(lengths).tolist()
        return torch.from_numpy(wav2vec.compute_mask((len(frames), max(frames)), frames, 0.65, 10))

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        audio, shares, mask = batch
        latents = self.modules.latents(audio, normalize_signal=False)  # (B, T, C)
        found = self.modules.encoder(latents, mask=mask, wav_lens=shares)
        rows = len(audio)
        context = self.modules.project(found["embeddings"][mask]).unflatten(0, (rows, -1))  # (B, M, P)
        targets, meta = self.modules.quantizer(latents[mask].unflatten(0, (rows, -1)))  # (B, M, P)
        return context, targets, meta["diversity_loss"] * found["num_masked"]

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Tensor:
        context, targets, diversity = predictions
        loss, _ = ContrastiveLoss(0.1)(context, targets, wav2vec.sample_negatives(targets, 100))
        return loss + 0.1 * diversity

    def on_fit_batch_end(self, *_: Any) -> None:
        self.modules.quantizer.quantiser.update_temp(self.optimizer_step)


class BestRQ(sb.Brain):
    """BEST-RQ.yaml and the brain beside it."""

    clip, optimizer_values = 10.0, {"lr": 8e-4, "betas": (0.9, 0.98), "eps": 1e-9, "weight_decay": 0.01}

    @staticmethod
    def build(work: Work) -> dict[str, nn.Module]:
        transformer = TransformerASR.TransformerASR(
            input_size=20 * 64, tgt_vocab=5000, d_model=work["dim"], nhead=work["heads"], num_decoder_layers=0,
            num_encoder_layers=work["layers"], d_ffn=4 * work["dim"], dropout=0.1, activation=nn.GELU,
            conformer_activation=nn.GELU, encoder_module="conformer", attention_type="RelPosMHAXL",
            normalize_before=True, causal=False, layerdrop_prob=0.0,
        )  # fmt: skip
        return {
            "mel": Fbank(sample_rate=16_000, n_fft=400, n_mels=80),
            "normalize": InputNormalization(norm_type="global", update_until_epoch=4),
            "quantizer": RandomProjectionQuantizer(80 * STRIDE, 16, 8192),
            "convolutions": ConvolutionFrontEnd(
                (8, 10, 80), num_blocks=2, num_layers_per_block=1, out_channels=(64, 64), kernel_sizes=(3, 3),
                strides=(2, 2), residuals=(False, False), norm=None,
            ),
            "encoder": TransformerASR.EncoderWrapper(transformer),
            "head": Linear(input_size=work["dim"], n_neurons=8192),
        }  # fmt: skip

    def mask(self, lengths: Tensor) -> Tensor:
        frames = (lengths // 160 + 1).tolist()
        return BESTRQ.compute_mask((len(frames), max(frames), 80), frames, 0.15, STRIDE)

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        audio, shares, mask = batch
        with torch.no_grad():
            mel = self.modules.normalize(self.modules.mel(audio), shares, epoch=1)
        mel = F.pad(mel, (0, 0, 0, -mel.size(1) % STRIDE))  # (B, S, F)
        targets = self.modules.quantizer(mel.unflatten(1, (-1, STRIDE)).flatten(2))  # (B, T)
        mel[:, mask] = 0.1 * torch.randn(len(mel), len(mask), mel.size(2))
        logits = self.modules.head(self.modules.encoder(self.modules.convolutions(mel), shares))  # (B, T, V)
        places = mask[::STRIDE] // STRIDE  # (M,)
        return logits[:, places].flatten(0, 1), targets[:, places].flatten()

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Tensor:
        return F.cross_entropy(*predictions)


def prepare(work: Work) -> Prepared:
    kind = {"wav2vec2": Wav2Vec2, "best_rq": BestRQ}[work["work"]]
    options = {"device": "cpu", "precision": work["dtype"], "max_grad_norm": kind.clip}
    brain = kind(
        kind.build(work),
        lambda weights: torch.optim.AdamW(weights, **kind.optimizer_values),
        run_opts=options,
    )
    brain.on_fit_start()
    brain.modules.train()
    audio, lengths = clips(work)
    masks = cycle([brain.mask(lengths) for _ in range(MASKS)])

    def step() -> None:
        brain.fit_batch((audio, torch.ones(len(audio)), next(masks)))

    return brain.modules.parameters(), step


if __name__ == "__main__":
    serve(prepare)
