"""What several methods ask of the same network in one step, computed once."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from research.contracts import Encoded, Encoder, Masking, Seq


class Once:
    """Answers of one step, by the tensors that they were asked about; these are kept, so that no other takes their id."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], tuple[Any, Any]] = {}
        self.asked: Counter[tuple[Any, ...]] = Counter()  # masks of each size, by the method that is at work

    def next(self) -> None:
        """Another method begins: its first mask is the others' first."""
        self.asked.clear()

    def answer(self, name: str, about: Sequence[Tensor], ask: Callable[[], Any]) -> Any:
        key = (name, torch.is_grad_enabled(), *map(id, about))
        if key not in self.known:
            self.known[key] = (ask(), about)
        return self.known[key][0]

    def mask(self, masking: Callable[[Tensor, int], Tensor], lengths: Tensor, size: int) -> Tensor:
        key = ("mask", size, *lengths.tolist())
        self.asked[key] += 1
        key = (*key, self.asked[key])
        if key not in self.known:
            self.known[key] = (masking(lengths, size), ())
        mask: Tensor = self.known[key][0]
        return mask


@contextmanager
def shared(encoder: Encoder, masking: Masking) -> Iterator[Once]:
    """Let the encoder run once on every input, and all who ask have the same masks.

    The first to ask an encoder gets all its layers computed, for it is not known who asks for which: training keeps
    them for the backward pass anyway.
    """
    once = Once()
    embed, context, draw = encoder.embed, encoder.context, masking.forward
    every = range(encoder.depth + 1)

    def embed_once(feats: Seq) -> Seq:
        found: Seq = once.answer("embed", [feats.x], lambda: embed(feats))
        return found

    def context_once(x: Seq, layers: Sequence[int] = ()) -> Encoded:
        found: Encoded = once.answer("context", [x.x], lambda: context(x, every))
        return Encoded(found.last, [found.layers[k] for k in layers])

    with ExitStack() as held:
        held.enter_context(replaced(encoder, "embed", embed_once))
        held.enter_context(replaced(encoder, "context", context_once))
        held.enter_context(replaced(masking, "forward", lambda lengths, size: once.mask(draw, lengths, size)))
        yield once


@contextmanager
def replaced(module: nn.Module, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let one object have another method for a while."""
    before = vars(module).get(name)
    vars(module)[name] = function
    try:
        yield
    finally:
        if before is None:
            del vars(module)[name]
        else:
            vars(module)[name] = before
