from dataclasses import dataclass

from torch import Tensor

from research.contracts import Batch, Loss, Objective, Parts, Seq
from research.errors import HarkError
from research.nn.functional import mask_ratio, noise, select, stack
from research.nn.modules import CodeHead, MaskToken
from research.registry import register


@register("nest")
class NEST(Objective):
    """Codes of the clean signal, predicted from the masked noisy one (arXiv 2408.13106).

    Targets and logits are computed for the frames that the loss counts and for no others.
    """

    example = ("encoder=fastconformer_tiny", "quantizer.codes=64")

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        threshold: float = 0.8  # an encoder frame counts when more than this share of its input was masked

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        self.cfg = cfg
        self.quantizer = parts.quantizer(self.frontend.dim * self.encoder.stride)
        if any(p.requires_grad for p in self.quantizer.parameters()):
            raise HarkError("this objective trains no quantizer; type quantizer=random_projection")
        self.head = CodeHead(self.encoder.dim, self.quantizer.books, self.quantizer.codes)
        self.mask_token = MaskToken(self.frontend.dim, learned=False)

    def forward(self, batch: Batch) -> Loss:
        r = self.encoder.stride
        clean, noisy = self.features(batch)  # (B, S, F)
        mask = self.masking(clean.lengths, clean.x.size(1))  # (B, S)
        h = self.encoder(self.hide(noisy, mask)).last  # (B, T, D)
        hit = stack(mask[..., None].float(), r).mean(-1) > self.cfg.threshold  # (B, T)
        ids = self.quantizer(select(stack(clean.x, r), hit)).ids  # (M, G)
        loss = self.head.cross_entropy(select(h.x, hit), ids)
        return loss.noting(mask_ratio(mask, clean.lengths))


@register("best_rq")
class BestRQ(NEST):
    """NEST's clean form: masked frames become fresh noise (arXiv 2202.01855, section 3.1).

    The paper augments nothing (`augmentation=none`) and normalises what it quantizes (`quantizer=best_rq`).
    """

    @dataclass(kw_only=True)
    class Config(NEST.Config):
        noise: float = 0.1  # standard deviation

    cfg: Config

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(cfg, parts=parts)
        del self.mask_token

    def fill(self, x: Seq, mask: Tensor) -> Seq:  # (B, S, F), (B, S)
        return noise(x, mask, self.cfg.noise)
