from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from research.contracts import Codes, Quantizer
from research.errors import HarkError
from research.nn.functional import perplexity
from research.registry import register
from research.schedules import Decay


@register("gumbel")
class Gumbel(Quantizer):
    """Trained product quantizer with a straight-through Gumbel softmax (wav2vec 2.0, arXiv 2006.11477, section 2).

    In training `vectors` are of codes drawn by the softmax, `drawn`; `ids` are always the likeliest codes. The
    penalty is the diversity loss in the form of the paper's code: 1 - perplexity / V of the mean softmax over all
    inputs, 0 when all codes are used alike. Scores are fp32 under any autocast.
    """

    example = ("objective=wav2vec2", "quantizer.codes=8", "quantizer.dim=16")
    temperature: Tensor  # scalar

    @dataclass(kw_only=True)
    class Config(Quantizer.Config):
        books: int = 2  # G
        codes: int = 320  # V
        dim: int = 256  # of the vectors: all books together
        temperature: Decay = field(
            default_factory=lambda: Decay(start=2.0, end=0.5, rate=0.999995)
        )  # of the softmax, by step

    def __init__(self, cfg: Config, *, dim_in: int) -> None:
        super().__init__()
        if cfg.dim % cfg.books:
            raise HarkError(
                f"quantizer.dim={cfg.dim}: cannot be shared out among quantizer.books={cfg.books}"
            )
        self.cfg, self.books, self.codes, self.dim = cfg, cfg.books, cfg.codes, cfg.dim
        self.score = nn.Linear(dim_in, cfg.books * cfg.codes)
        nn.init.normal_(self.score.weight)
        nn.init.zeros_(self.score.bias)
        self.codebook = nn.Parameter(torch.rand(self.tables(), cfg.codes, cfg.dim // cfg.books))
        self.register_buffer("temperature", torch.tensor(cfg.temperature(0)))

    def tables(self) -> int:
        return self.books

    def forward(self, x: Tensor) -> Codes:  # (..., dim_in) -> ids (..., G), vectors (..., C)
        with torch.autocast(x.device.type, enabled=False):
            logits = self.score(x.float().flatten(0, -2)).unflatten(-1, (self.books, self.codes))  # (M, G, V)
            ids = logits.argmax(-1)  # (M, G)
            drawn, hot = self.draw(logits) if self.training else (ids, one_hot(ids, self.codes))
            table = self.codebook.expand(self.books, -1, -1)  # (G, V, C / G)
            vectors = torch.einsum("mgv,gvc->mgc", hot, table).flatten(1)  # (M, C)
            used = perplexity(logits.softmax(-1).sum(0))  # codes per book
        lead = x.shape[:-1]
        return Codes(
            ids.unflatten(0, lead),
            vectors.unflatten(0, lead),
            drawn=drawn.unflatten(0, lead),
            penalty=1 - used / self.codes,
        )

    def draw(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Sample codes, (M, G, V) -> ids (M, G) and one-hot rows (M, G, V) with the gradient of the softmax."""
        noise = -torch.empty_like(logits).exponential_().log()
        soft = ((logits + noise) / self.temperature).softmax(-1)
        ids = soft.argmax(-1)
        return ids, one_hot(ids, self.codes) - soft.detach() + soft

    def on_step_end(self, step: int) -> None:
        self.temperature.fill_(self.cfg.temperature(step))


@register("gumbel_shared")
class SharedGumbel(Gumbel):
    """All books choose from one table, as NeMo's quantizer does (its `combine_groups`)."""

    @dataclass(kw_only=True)
    class Config(Gumbel.Config):
        codes: int = 300
        dim: int = 128

    def tables(self) -> int:
        return 1


def one_hot(ids: Tensor, codes: int) -> Tensor:
    """(M, G) -> fp32 (M, G, V)."""
    return torch.zeros(*ids.shape, codes, device=ids.device).scatter_(-1, ids[..., None], 1.0)
