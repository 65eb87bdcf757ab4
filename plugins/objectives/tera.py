from dataclasses import dataclass

import torch
from torch import Tensor, nn

from research.contracts import Batch, Loss, Objective, Parts, Seq, Stat
from research.errors import HarkError
from research.nn.functional import mask_ratio, mean, select, silence, stack
from research.nn.linear import Linear
from research.registry import register


@register("tera")
class TERA(Objective):
    """Reconstruct masked frames of the spectrogram, by L1 (arXiv 2007.06028); so does Mockingjay (arXiv 1910.12638).

    Deviations: every masked frame is silenced, where the paper leaves a tenth as they are and swaps a tenth for others;
    whole channels are hidden by `masking=channel` and count in masked frames only; noise is the augmentation's business,
    and never a target; with an encoder that subsamples, an output reconstructs all the frames that became it.
    """

    example = ("encoder=fastconformer_tiny",)

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        hidden: int = 768  # of the head: linear, GELU, layer norm, linear

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        if any(p.requires_grad for p in self.frontend.parameters()):
            raise HarkError(
                "objective=tera: reconstructs the frontend's frames, and one that is trained would learn to make them "
                "all alike; type frontend=log_mel"
            )
        self.head = nn.Sequential(
            Linear(self.encoder.dim, cfg.hidden),
            nn.GELU(),
            nn.LayerNorm(cfg.hidden),
            Linear(cfg.hidden, self.encoder.stride * self.frontend.dim),
        )

    def forward(self, batch: Batch) -> Loss:
        clean, noisy = self.features(batch)  # (B, S, F)
        mask = self.masking(clean.lengths, clean.x.size(1))  # (B, S)
        h = self.encoder(self.hide(noisy, mask)).last  # (B, T, D)
        x = select(clean.x, mask).float()  # (M, F)
        error = (self.reconstruct(h, mask) - x).abs().mean(-1).sum()
        with torch.no_grad():
            average = mean(clean.x, clean.valid)[:, None].expand_as(clean.x)  # (B, S, F) of each utterance
            guessed = (select(average, mask) - x).abs().mean(-1).sum()
            stats = {
                "l1": Stat(error.detach(), len(x)),
                "mean_l1": Stat(guessed, len(x)),
            }
        return Loss(error, len(x), stats | mask_ratio(mask, clean.lengths))

    def reconstruct(self, h: Seq, mask: Tensor) -> Tensor:
        """The masked frames, from the outputs that any of them became: (B, T, D), bool (B, S) -> fp32 (M, F)."""
        r = self.encoder.stride
        parts = stack(mask[..., None], r)  # bool (B, T, r): where each output's frames are masked
        some = parts.any(-1)  # (B, T)
        y = self.head(select(h.x, some)).float()  # (A, r * F)
        return select(y.unflatten(1, (r, -1)), parts[some])  # (M, F)

    def fill(self, x: Seq, mask: Tensor) -> Seq:  # (B, S, F), (B, S)
        return silence(x, mask)
