"""One registered plugin, and small runs of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from omegaconf import OmegaConf

from research import registry
from research.compose import compose_config
from research.config import Config
from research.contracts import Batch, Objective, Plugin, Quantizer, Seq
from research.model import assemble

ALWAYS = ("data.train=[]", "schedule=constant", "optimizer.lr=2e-3")
LABELS = 8  # offline labels are drawn from so many
DIM, LAYERS, CLASSES = 24, 3, 5
FACTS: dict[str, dict[str, int]] = {  # what plugins of downstream tasks are made with
    "aggregation": {"dim_in": DIM, "layers": LAYERS},
    "head": {"dim_in": DIM},
    "criterion": {"dim_in": DIM, "classes": CLASSES},
}


@dataclass(frozen=True)
class Case:
    """A plugin by kind and name. What is no objective is tried inside one: its `example`'s, or the default."""

    kind: str
    name: str

    @property
    def cls(self) -> type[Plugin]:
        found: type[Plugin] = registry.find(self.kind, self.name)
        return found

    @property
    def placeholder(self) -> bool:
        """The plugin stands for the choice of none: it is a quantizer without a `forward`."""
        return issubclass(self.cls, Quantizer) and self.cls.forward is Quantizer.forward

    def config(self, *overrides: str) -> Config:
        """Give a small run with this plugin, `overrides` on top."""
        return compose((*small(self.kind, self.name), *overrides))

    def plugin(self, **facts: Any) -> Any:
        """Build the plugin alone, small."""
        torch.manual_seed(0)
        if self.kind in registry.PARTS:
            return registry.build(getattr(self.config(), self.kind), **facts)
        return registry.build(shrunk(self.kind, self.name), **facts)

    def model(self, *overrides: str, seed: int = 0) -> Objective:
        """Build a small model with the plugin in it."""
        return assemble(self.config(f"run.seed={seed}", *overrides))


@cache
def compose(overrides: tuple[str, ...]) -> Config:
    return compose_config((*ALWAYS, *overrides)).config


def small(kind: str, name: str) -> list[str]:
    """Overrides that choose a plugin, its `example`, and the example of the objective around it."""
    own = [f"{kind}={name}", *registry.find(kind, name).example]
    if kind == "objective":
        return own
    objective = next((o.split("=")[1] for o in own if o.startswith("objective=")), default_objective())
    taken = {o.split("=")[0] for o in own} - {"objective"}
    around = {o: o.split("=")[0] for o in registry.find("objective", objective).example}
    return own + [o for o, key in around.items() if not taken & {key, key.split(".")[0]}]


def shrunk(kind: str, name: str) -> Plugin.Config:
    """Give the config of a plugin that stands in no model, its `example` on top."""
    full = OmegaConf.structured(registry.config_of(kind, name))
    own = [o.removeprefix(f"{kind}.") for o in registry.find(kind, name).example]
    config = OmegaConf.to_object(OmegaConf.merge(full, OmegaConf.from_dotlist(own)))
    assert isinstance(config, Plugin.Config)
    return config


def default_objective() -> str:
    return next(choice["objective"] for choice in Config().defaults if "objective" in choice)


def signal(seconds: Sequence[float], rate: int, seed: int = 0) -> Seq:
    """Noise whose level changes every tenth of a second, silence after each end: (B, N)."""
    source = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([round(s * rate) for s in seconds])  # (B,)
    size = int(lengths.max())
    level = torch.rand(len(lengths), size // (rate // 10) + 1, generator=source).repeat_interleave(
        rate // 10, 1
    )
    audio = Seq(0.1 * torch.randn(len(lengths), size, generator=source) * level[:, :size], lengths)
    return audio.replace(audio.x * audio.valid)


def speech(model: Objective, seconds: Sequence[float] = (1.2, 0.9, 0.7), seed: int = 0) -> Batch:
    """A batch for a model: the second row is noisy, every encoder frame has an offline label."""
    audio = signal(seconds, model.frontend.sample_rate, seed)
    names = [str(i) for i in range(len(seconds))]
    texts = ["ab", "b", "ca"][: len(seconds)] + ["a"] * (len(seconds) - 3)
    batch = Batch.clean(audio, labels=labels(model, audio, seed), ids=names, texts=texts)
    if len(seconds) > 1:
        added = signal(seconds, model.frontend.sample_rate, seed + 1).x
        added[0], added[2:] = 0, 0
        batch.noisy, batch.changed = audio.replace(audio.x + added), torch.tensor([1])
    return batch


@torch.no_grad()
def labels(model: Objective, audio: Seq, seed: int) -> Seq:
    """Random labels (B, T, 1) for the frames that the encoder will give."""
    source = torch.Generator().manual_seed(seed)
    frames = -(-model.frontend(audio).lengths // model.encoder.stride)  # (B,)
    drawn = torch.randint(LABELS, (len(frames), max(1, int(frames.max())), 1), generator=source)  # (B, T, 1)
    return Seq(drawn * (torch.arange(drawn.size(1)) < frames[:, None])[..., None], frames)


def part(batch: Batch, rows: list[int]) -> Batch:
    """Some rows as a batch of their own, no wider than they need."""
    kept = [i for i, row in enumerate(rows) if row in batch.changed.tolist()]
    size = int(batch.audio.lengths[rows].max())
    audio = Seq(batch.audio.x[rows, :size], batch.audio.lengths[rows])
    noisy = audio.replace(batch.noisy.x[rows, :size]) if kept else audio
    assert batch.labels is not None
    frames = batch.labels.lengths[rows]  # (B',)
    return Batch(
        audio,
        noisy,
        torch.tensor(kept, dtype=torch.long),
        labels=Seq(batch.labels.x[rows, : int(frames.max())], frames),
        ids=[batch.ids[row] for row in rows],
        texts=[batch.texts[row] for row in rows],
    )


def littered(x: Seq, more: int) -> Seq:
    """The same rows in a wider batch with garbage where padding should be: (B, T, ...) -> (B, T + more, ...)."""
    litter = torch.randn(
        x.x.size(0), x.x.size(1) + more, *x.x.shape[2:], generator=torch.Generator().manual_seed(9)
    )
    inside = torch.arange(litter.size(1)) < x.lengths[:, None]  # (B, T + more)
    litter[inside] = x.x[x.valid]
    return Seq(litter, x.lengths)
