"""One look at a model: it hears the panel as it hears any batch, and what passes through its parts is measured.

The objective's own loss and stats, and beside them (of several parts of one kind as `name@part`):
  frontend_std, embed_std   standard deviation over frames, mean over channels: of the frontend, of `encoder.embed`
  rankme_K                  RankMe of layer K over frames: the first, the middle and the last one
  cka_K                     linear CKA of layer K with itself at step 0
  pred_entropy              mean entropy of a head's predictions, as a share of log V
  mean_pred_ppl             perplexity of its mean prediction, codes
  code_ppl, dead_codes      perplexity of a quantizer's codes; share not seen, of those that so many frames could show
  teacher_std               deviation of a teacher's output over frames, as a share of its root mean square
  masked                    share of masked frames
  weight_norm               norm of all trained weights
  student_drift, teacher_drift, codes_drift   what has become of sums of weights since step 0: 0 only if nothing moved
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from research.contracts import Batch, Codes, Encoded, Encoder, Masking, Objective, Quantizer, Seq, Stat
from research.nn import health
from research.nn.functional import histogram, perplexity
from research.nn.modules import CodeHead
from research.nn.once import replaced
from research.nn.teacher import Teacher
from research.training.seeds import seed_all
from research.training.stats import StatBag
from research.training.step import Student

FRAMES = 512  # of the panel, at most, of which layers are measured

Named = dict[str, list[Any]]  # name of a part -> what it gave


@dataclass
class Look:
    """What was seen: numbers to log, and the layers' grams."""

    values: dict[str, float] = field(default_factory=dict)
    grams: list[Tensor] = field(default_factory=list)
    quantized: set[str] = field(default_factory=set)  # names of quantizers that were asked


@torch.no_grad()
def look(student: Student, batch: Batch, begun: Sequence[Tensor]) -> Look:
    """Measure a model in eval mode; nothing in it moves. Ranks that share it call this together.

    `begun` are the grams of its layers as it began; none: how far they went is left out.
    """
    task, device = student.task, student.ranks.device
    assert isinstance(task, Objective)
    seen, bag = Seen(task), StatBag(device)
    task.eval()
    with ExitStack() as held:
        held.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        held.enter_context(eagerly() if student.cfg.train.compile else nullcontext())
        held.enter_context(student.autocast())
        held.enter_context(seen.watching())
        seed_all("health")
        loss = task(batch.to(device))
    task.train()
    bag.add(loss.stats | {"loss": Stat(loss.total, loss.count)})
    values = seen.values([one.to(device) for one in begun])
    numbers = torch.stack([value.double().to(device) for value in values.values()]).tolist() if values else []
    return Look(
        bag.pop(lambda _: None) | dict(zip(values, numbers, strict=True)), seen.grams, set(seen.codes)
    )


def eagerly() -> AbstractContextManager[None]:
    """Compile nothing for the panel's sake."""
    return torch.compiler.set_stance("force_eager")


class Seen:
    """What parts of a model gave while it heard the panel."""

    def __init__(self, task: Objective) -> None:
        self.task = task
        self.scalars: dict[str, Tensor] = {}
        self.layers: list[Tensor] = []  # (N, D) each
        self.heads: Named = defaultdict(list)
        self.codes: Named = defaultdict(list)
        self.teachers: Named = defaultdict(list)
        self.masked: list[tuple[float, float]] = []  # masked frames, frames

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Listen to frontend, heads, quantizers, masking and teachers."""
        with ExitStack() as held:

            def hook(module: nn.Module, listen: Callable[..., None]) -> None:
                held.callback(module.register_forward_hook(listen).remove)

            hook(self.task.frontend, self.hear)
            for name, module in self.task.named_modules():
                if isinstance(module, CodeHead):
                    hook(module, lambda head, args, _, name=name: self.answered(name, head, args[0]))
                elif isinstance(module, Quantizer):
                    hook(module, lambda part, _, out, name=name: self.quantized(name, part, out))
                elif isinstance(module, Masking):
                    hook(module, self.mask)
            for name, encoder in taught(self.task):
                held.enter_context(replaced(encoder, "context", self.listening(name, encoder.context)))
            yield

    def hear(self, _: nn.Module, __: object, feats: Seq) -> None:
        """Let the encoder hear all of what the frontend gives first, nothing masked.

        That is done here for ranks that share a model have all of it only within its `forward`.
        """
        if self.layers:
            return
        encoder = self.task.encoder
        x = encoder.embed(feats)  # (B, T, D)
        self.scalars["frontend_std"] = health.variation(frames(feats))
        self.scalars["embed_std"] = health.variation(frames(x))
        layers = encoder.context(x, range(encoder.depth + 1)).layers
        self.layers = [frames(x.replace(layer)).float() for layer in layers]  # (N, D) each

    def answered(self, name: str, head: CodeHead, x: Tensor) -> None:
        self.heads[name].append(head.forward(x))  # logits, of a head that was asked for its loss too

    def quantized(self, name: str, part: Quantizer, out: Codes) -> None:
        self.codes[name].append((out.ids.flatten(0, -2), part.codes))

    def mask(self, _: nn.Module, inputs: tuple[Tensor, int], mask: Tensor) -> None:
        self.masked.append((float(mask.sum()), float(inputs[0].sum())))

    def listening(self, name: str, context: Callable[..., Encoded]) -> Callable[..., Encoded]:
        def heard(x: Seq, layers: Sequence[int] = ()) -> Encoded:
            out = context(x, layers)
            tops = [x.replace(layer) for layer in out.layers] or [out.last]
            self.teachers[name] += [frames(top) for top in tops]
            return out

        return heard

    @cached_property
    def grams(self) -> list[Tensor]:
        return [health.gram(layer) for layer in self.layers]

    def values(self, begun: Sequence[Tensor]) -> dict[str, Tensor]:
        """Every measure by its name; of several parts of one kind, `name@part`."""
        found = dict(self.scalars)
        depth = len(self.layers) - 1
        for k in sorted({0, depth // 2, depth} if self.layers else ()):
            found[f"rankme_{k}"] = health.rankme(self.layers[k])
        for k, (gram, first) in enumerate(zip(self.grams, begun, strict=False)):
            found[f"cka_{k}"] = health.cka(gram, first)
        for name, logits in self.heads.items():
            both = health.entropies(torch.cat([one.flatten(0, -3) for one in logits]))
            found[at("pred_entropy", name, self.heads)], found[at("mean_pred_ppl", name, self.heads)] = both
        for name, codes in self.codes.items():
            ids, size = torch.cat([one for one, _ in codes]), codes[0][1]
            found[at("code_ppl", name, self.codes)] = perplexity(histogram(ids, size))
            found[at("dead_codes", name, self.codes)] = health.dead(ids, size)
        for name, layers in self.teachers.items():
            stds = [health.relative_variation(layer) for layer in layers]
            found[at("teacher_std", name, self.teachers)] = torch.stack(stds).min()
        if self.masked:
            hit, total = map(sum, zip(*self.masked, strict=True))
            found["masked"] = torch.tensor(hit / max(total, 1.0))
        return found


def at(measure: str, name: str, parts: Named) -> str:
    return measure if len(parts) == 1 else f"{measure}@{name}"


def taught(task: Objective) -> Iterator[tuple[str, Encoder]]:
    """Encoders in teachers, by the teacher's name."""
    names = [name for name, module in task.named_modules() if is_teacher(name, module)]
    for name in names:
        if not any(name.startswith(f"{other}.") for other in names):
            for module in task.get_submodule(name).modules():
                if isinstance(module, Encoder):
                    yield name, module


def is_teacher(name: str, module: nn.Module) -> bool:
    return isinstance(module, Teacher) or name.rpartition(".")[2] == "teacher"


def frames(x: Seq) -> Tensor:
    """Valid frames of a batch, evenly chosen, at most FRAMES: (B, T, C) -> (N, C)."""
    inside = torch.arange(x.x.size(1)) < x.lengths[:, None]  # (B, T)
    rows = inside.flatten().nonzero()[:, 0]  # (all,)
    rows = rows[torch.linspace(0, len(rows) - 1, min(FRAMES, len(rows))).long()]  # (N,)
    return x.x.flatten(0, 1).index_select(0, rows.to(x.x.device))
