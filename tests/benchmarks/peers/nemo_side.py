"""NeMo 3.0's side, run by its own Python: forward, loss, backward and AdamW of its models with the values of its YAML."""

from typing import Any

import torch
from nemo.collections.asr.models import ssl_models
from omegaconf import OmegaConf
from serving import Prepared, Work, clips, serve  # beside this file: hark is not installed here

TARGET = "nemo.collections.asr."
MEL = {
    "_target_": TARGET + "modules.AudioToMelSpectrogramPreprocessor", "sample_rate": 16000, "normalize": "per_feature",
    "window_size": 0.025, "window_stride": 0.01, "window": "hann", "features": 80, "n_fft": 512, "log": True,
    "frame_splicing": 1, "dither": 1e-5, "pad_to": 16, "pad_value": 0.0,
}  # fmt: skip
OPTIM = {"name": "adamw", "lr": 1e-4, "betas": [0.9, 0.98], "weight_decay": 1e-3}


def encoder(work: Work) -> dict[str, Any]:
    """FastConformer as in its self-supervised configs."""
    return {
        "_target_": TARGET + "modules.ConformerEncoder", "feat_in": 80, "feat_out": -1, "n_layers": work["layers"],
        "d_model": work["dim"], "use_bias": True, "subsampling": "dw_striding", "subsampling_factor": 8,
        "subsampling_conv_channels": 256, "causal_downsampling": False, "ff_expansion_factor": 4,
        "self_attention_model": "rel_pos", "n_heads": work["heads"], "att_context_size": [-1, -1],
        "att_context_style": "regular", "xscaling": True, "untie_biases": True, "pos_emb_max_len": 5000,
        "conv_kernel_size": 9, "conv_norm_type": "batch_norm", "conv_context_size": None, "dropout": 0.1,
        "dropout_pre_encoder": 0.1, "dropout_emb": 0.0, "dropout_att": 0.1,
    }  # fmt: skip


def nest(work: Work) -> dict[str, Any]:
    return {
        "sample_rate": 16000, "num_classes": 8192, "num_books": 1, "code_dim": 16, "squeeze_single": False,
        "mask_position": "pre_conv", "preprocessor": MEL, "encoder": encoder(work), "optim": OPTIM,
        "spec_augment": {"_target_": TARGET + "modules.SpectrogramAugmentation", "freq_masks": 0, "time_masks": 0},
        "masking": {
            "_target_": TARGET + "modules.RandomBlockMasking", "block_size": 40, "mask_prob": 0.01, "feat_in": 80,
            "freeze": True, "allow_overlap": True,
        },
        "quantizer": {
            "_target_": TARGET + "modules.RandomProjectionVectorQuantizer", "feat_in": 80, "code_dim": 16, "num_books": 1,
            "num_classes": 8192, "dist_fn": "l2", "freeze": True, "squeeze_single": False, "combine_time_steps": 8,
        },
        "decoder": {
            "_target_": TARGET + "modules.MultiSoftmaxDecoder", "feat_in": work["dim"], "num_classes": 8192,
            "num_decoders": 1, "squeeze_single": False, "use_bias": True,
        },
        "loss": {
            "_target_": TARGET + "losses.MultiMLMLoss", "combine_time_steps": 8, "mask_threshold": 0.8,
            "num_decoders": 1, "squeeze_single": False,
        },
    }  # fmt: skip


def contrast(work: Work) -> dict[str, Any]:
    """What fast-conformer.yaml trains: contrast with projected mel, no codes, no masked prediction."""
    return {
        "sample_rate": 16000, "preprocessor": MEL, "encoder": encoder(work), "optim": OPTIM,
        "spec_augment": {
            "_target_": TARGET + "modules.MaskedPatchAugmentation", "freq_masks": 3, "freq_width": 20, "patch_size": 48,
            "mask_patches": 0.5,
        },
        "loss_list": {
            "contrastive": {
                "is_active": True,
                "decoder": {
                    "_target_": TARGET + "modules.ConvASRDecoderReconstruction", "feat_in": work["dim"],
                    "feat_hidden": 256, "feat_out": 256, "stride_layers": 0, "non_stride_layers": 0,
                    "stride_transpose": False, "apply_softmax": False,
                },
                "loss": {
                    "_target_": TARGET + "losses.ContrastiveLoss", "in_dim": 80, "proj_dim": 256, "combine_time_steps": 8,
                    "quantized_targets": False, "codebook_size": 300, "num_groups": 2, "num_negatives": 100,
                    "sample_from_same_utterance_only": True, "sample_from_non_masked": False,
                },
            }
        },
    }  # fmt: skip


def prepare(work: Work) -> Prepared:
    if work["work"] == "nest":
        model = ssl_models.EncDecDenoiseMaskedTokenPredModel(OmegaConf.create(nest(work)))
    else:
        model = ssl_models.SpeechEncDecSelfSupervisedModel(OmegaConf.create(contrast(work)))
    model.train()
    values = {"lr": OPTIM["lr"], "betas": tuple(OPTIM["betas"]), "weight_decay": OPTIM["weight_decay"]}
    optimizer = torch.optim.AdamW(model.parameters(), **values)
    audio, lengths = clips(work)
    loss_of = {"nest": nest_loss, "contrast": contrast_loss}[work["work"]]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=work["dtype"] == "bf16"):
            loss = loss_of(model, audio, lengths)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return model.parameters(), step


def nest_loss(model: Any, audio: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """As its training_step, without the logger."""
    said, sizes, masks, tokens = model(
        input_signal=audio, input_signal_length=lengths, noisy_input_signal=audio.clone(),
        noisy_input_signal_length=lengths.clone(), noise_signal=None, noise_signal_length=None, apply_mask=True,
    )  # fmt: skip
    return model.loss(masks=masks, decoder_outputs=said, targets=tokens, decoder_lengths=sizes)


def contrast_loss(model: Any, audio: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    spectrograms, masks, encoded, sizes = model(input_signal=audio, input_signal_length=lengths)
    model.decoder_losses_active = dict.fromkeys(model.decoder_losses, True)
    loss, _ = model.decoder_loss_step(spectrograms, masks, encoded, sizes)
    model.reset_registry()
    return loss.sum()


if __name__ == "__main__":
    serve(prepare)
