from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from research.contracts import Batch, Loss, Objective, Parts, Seq, Stat, Use
from research.errors import HarkError
from research.nn.edits import collapse, edits
from research.nn.functional import mask_ratio, silence
from research.nn.linear import Linear
from research.registry import preset, register


@register("ctc")
class CTC(Objective):
    """Learn the characters that were said, the upper bound of what no text teaches (ICML 2006, doi 10.1145/1143844.1143891).

    Texts are lower-cased; what is `silent` is a space, and several spaces are one. The sum over utterances is counted
    in characters. An utterance without text has no loss; nor has one with fewer encoder frames than its characters and
    the blanks between equal ones need: `too_short` is their share. Training hides what `masking` says, as SpecAugment
    (arXiv 1904.08779) does. `cer` is of the best path; saying nothing would score a `blank_cer` of 1.
    """

    example = ("encoder=fastconformer_tiny", "encoder.stride=4", "objective.alphabet=abc")
    masks = Use.may
    wants = ("text",)

    @dataclass(kw_only=True)
    class Config(Objective.Config):
        alphabet: str = " абвгдеёжзийклмнопрстуфхцчшщъыьэюя"  # the blank comes after it
        silent: str = ".,:;?!'-"  # characters that nobody hears

    def __init__(self, cfg: Config, *, parts: Parts) -> None:
        super().__init__(parts)
        if not cfg.alphabet or sorted(set(cfg.alphabet.lower())) != sorted(cfg.alphabet):
            raise HarkError(
                f"objective.alphabet={cfg.alphabet!r}: give characters, each once; texts are lower-cased before"
            )
        self.blank = len(cfg.alphabet)
        self.codes = {character: code for code, character in enumerate(cfg.alphabet)}
        self.heard = str.maketrans(dict.fromkeys(cfg.silent, " "))
        self.head = Linear(self.encoder.dim, self.blank + 1)

    def forward(self, batch: Batch) -> Loss:
        noisy = self.frontend(batch.noisy)  # (B, S, F): nothing asks for the clean side
        mask = torch.zeros(noisy.x.shape[:2], dtype=torch.bool)  # (B, S)
        if self.training:
            mask = self.masking(noisy.lengths, noisy.x.size(1))
            noisy = self.hide(noisy, mask)
        h = self.encoder(noisy).last  # (B, T, D)
        scores = self.head(h.x).float()  # (B, T, K + 1)
        tokens, lengths = self.tokens(batch)  # (B, U), (B,)
        fits = (lengths > 0) & (needed(tokens, lengths) <= h.lengths)  # (B,)
        device = scores.device
        losses = F.ctc_loss(
            scores.log_softmax(-1).transpose(0, 1), tokens.to(device, non_blocking=True), h.lengths, lengths,
            self.blank, reduction="none", zero_infinity=True,
        )  # (B,)  # fmt: skip
        total = torch.where(fits.to(device, non_blocking=True), losses, 0.0).sum()
        too_short = Stat(((lengths > 0) & ~fits).sum().float(), float((lengths > 0).sum()))
        stats = self.judge(Seq(scores.detach(), h.lengths), tokens, lengths) | {"too_short": too_short}
        return Loss(total, int(lengths[fits].sum()), stats | mask_ratio(mask, noisy.lengths))

    def judge(self, scores: Seq, tokens: Tensor, lengths: Tensor) -> dict[str, Stat]:
        """Character errors of the best path, of utterances with a text: (B, T, K + 1), (B, U), (B,)."""
        device, said = scores.x.device, (lengths > 0).float()  # (B,)
        best = scores.x.argmax(-1)  # (B, T)
        text, sizes = collapse(best, scores.valid, self.blank)
        wrong = edits(text, sizes, tokens.to(device, non_blocking=True), lengths)  # (B,)
        blanks = ((best == self.blank) & scores.valid).sum()
        characters = int(lengths.sum())
        return {
            "cer": Stat((wrong * said.to(device, non_blocking=True)).sum(), characters),
            "blank_cer": Stat(torch.tensor(float(characters)), characters),
            "blank": Stat(blanks, float(scores.lengths.sum())),
        }

    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Codes of the texts (B, U), U at least 1, and how many each has (B,), on the host.

        HarkError: a character that is not in the alphabet.
        """
        texts = [" ".join(text.lower().translate(self.heard).split()) for text in batch.texts]
        for row, text in enumerate(texts):
            for character in text:
                if character not in self.codes:
                    raise HarkError(
                        f"utterance '{batch.ids[row]}': its text has {character!r}, which is not in the alphabet; add it to "
                        "objective.alphabet, or to objective.silent to leave it out"
                    )
        found = [
            torch.tensor([self.codes[character] for character in text], dtype=torch.long) for text in texts
        ]
        lengths = torch.tensor([len(codes) for codes in found])  # (B,)
        return F.pad(pad_sequence(found, batch_first=True), (0, int(not any(texts)))), lengths  # (B, U)

    def fill(self, x: Seq, mask: Tensor) -> Seq:  # (B, S, F), (B, S)
        return silence(x, mask)


def needed(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Frames that a text takes at least, with a blank between equal characters: (B, U), (B,) -> (B,)."""
    inside = torch.arange(1, tokens.size(1)) < lengths[:, None]  # (B, U - 1)
    return lengths + ((tokens[:, 1:] == tokens[:, :-1]) & inside).sum(1)


preset("ctc_english", CTC.Config(alphabet=" 'abcdefghijklmnopqrstuvwxyz", silent='.,:;?!-"'))
