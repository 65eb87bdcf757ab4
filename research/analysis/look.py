"""One run, opened: what its student hears, what is masked, which codes it has to tell.

Nothing in the run's folder changes, and nothing in the model moves: it is in eval mode, and draws from generators that
are put back.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from research import registry, runs
from research.config import Config, Streams
from research.contracts import Augmentation, Batch, Codes, Masking, Objective, Quantizer, Seq
from research.data.loader import Loader
from research.data.manifest import Manifest, load, load_noise
from research.data.plan import Item
from research.engine.weights import steps
from research.errors import HarkError
from research.interop import hark_run
from research.interop.initialise import initialise
from research.model import assemble
from research.nn.modules import CodeHead
from research.training.given import stand_in
from research.training.seeds import seed_all

Fits = Callable[[Path], bool]


@dataclass(frozen=True)
class Opened:
    """A run's model as it was at a step, in eval mode, with the augmentation that it was trained with."""

    path: Path
    step: int
    config: Config
    objective: Objective
    augment: Augmentation


@dataclass(frozen=True)
class Heard:
    """One utterance as the student met it."""

    id: str
    clean: Tensor  # (N,) samples
    noisy: Tensor  # (N,) what the student heard; equal to `clean` where nothing augmented it
    rate: int  # Hz
    masked: Tensor  # bool (S,), or (T,) where frames of the encoder are masked
    period: float  # s of one frame of `masked`

    @property
    def changed(self) -> bool:
        return not torch.equal(self.clean, self.noisy)


@dataclass(frozen=True)
class Hearing:
    """Some utterances, heard in one batch, and the codes of their targets."""

    utterances: list[Heard]
    targets: Tensor  # (M, G) int64, of the first quantizer; (0, 0) where the method has none
    predictions: Tensor  # (M, G) int64, of the head that tells them; (0, 0) where there is none
    codes: int  # V


def newest(folder: str | Path, *fits: Fits) -> Path:
    """Give the run of a folder that was finished last and can be opened; HarkError when none of them fits.

    `fits` ask more of it: `has_codes`, `probed("pnmi")`.
    """
    found = [path.parent for path in Path(folder).glob("*/done.json") if steps(path.parent / "checkpoints")]
    found = [run for run in found if hark_run.began_as(run) is None and all(fit(run) for fit in fits)]
    if not found:
        wanted = ", ".join(fit.__name__ for fit in fits) or "finished"
        raise HarkError(f"{folder}: no run here fits ({wanted}); `make demo` trains and probes one in runs/")
    return max(found, key=lambda run: (run / "done.json").stat().st_mtime)


def has_codes(run: Path) -> bool:
    """Whether its objective learns codes of a quantizer."""
    return bool(yaml.safe_load((run / "config.yaml").read_text())["plugins"]["quantizer"] != "none")


def probed(name: str) -> Fits:
    """Ask whether a run has answers of a probe."""

    def answered(run: Path) -> bool:
        return any(line["probe"] == name for line in runs.read_jsonl(run / "probes.jsonl"))

    answered.__name__ = f"probed({name!r})"
    return answered


def open_run(path: str | Path, step: int | None = None) -> Opened:
    """Open a run at a step, at the newest good checkpoint if None; 0 draws its first weights again.

    HarkError: no run, no such step, every checkpoint damaged.
    """
    registry.load_plugins()
    run, named = hark_run.located(Path(path))
    config, step = runs.load_config(run), named if step is None else step
    with torch.random.fork_rng(devices=[]):
        objective, augment = assemble(config), registry.build(config.augmentation)
    if step == 0:
        initialise(objective, config)
    else:
        _, step, state = hark_run.weights(Path(path), step)
        objective.load_state_dict(state)
    return Opened(run, step, config, objective.eval(), augment.eval())


def manifest_of(run: Path, name: str | Path) -> Path:
    """Give a manifest that a run names, wherever this is called: a relative path starts where the run was typed.

    HarkError: it is neither below the working folder, nor below a folder that holds the run, nor in this checkout.
    """
    starts = [Path.cwd(), *run.absolute().parents, runs.ROOT]
    there = [start / name for start in starts if (start / name).is_file()]
    if not there:
        raise HarkError(f"{name}: this manifest of {run} is not here; name another one")
    return there[0]


def hear(
    opened: Opened, count: int = 8, seconds: float = 4.0, seed: int = 0, manifest: str | Path | None = None
) -> Hearing:
    """Let the model hear utterances of about some seconds, augmented and masked as in training.

    They are of `manifest`, of the run's own validation (or else training) data if None. Another seed draws other masks.
    HarkError: there is no manifest.
    """
    objective, config = opened.objective, opened.config
    batch = batch_of(opened, count, seconds, manifest)
    seen = Seen()
    with torch.no_grad(), torch.random.fork_rng(devices=[]), seen.watching(objective):
        seed_all("look", seed)
        batch = opened.augment(batch)
        objective(stand_in(batch, objective))
    hop = objective.frontend.hop / config.data.sample_rate  # s
    period = hop if seen.masked.size(1) == seen.frames else hop * objective.encoder.stride
    utterances = []
    for b, name in enumerate(batch.ids):
        size = int(batch.audio.lengths[b])
        frames = math.ceil(size / config.data.sample_rate / period)
        masked = seen.of(b, len(batch.ids), frames)  # (S,) or (T,)
        clean, noisy = batch.audio.x[b, :size], batch.noisy.x[b, :size]
        utterances.append(Heard(name, clean, noisy, config.data.sample_rate, masked, period))
    return Hearing(utterances, *seen.pairs())


def batch_of(opened: Opened, count: int, seconds: float, manifest: str | Path | None) -> Batch:
    """Read the utterances whose durations are nearest to `seconds`."""
    data = opened.config.data
    if manifest is None:
        if isinstance(data, Streams):
            raise HarkError(
                f"{opened.path}: was trained on streams; name a manifest: hear(..., manifest=PATH)"
            )
        manifest = manifest_of(opened.path, (data.valid or data.train)[0])
    speech: Manifest = load([manifest], data)
    noise = load_noise([manifest_of(opened.path, path) for path in data.noise], data) if data.noise else None
    rows = np.argsort(np.abs(speech.durations - seconds), kind="stable")[:count]
    loaded = Loader(speech, noise, data, seed=0).load(Item(0, rows))
    if loaded.batch is None:
        raise HarkError(f"{manifest}: {loaded.bad[0]}")
    return loaded.batch


@dataclass
class Seen:
    """What parts of an objective gave in one forward pass."""

    masked: Tensor = field(default_factory=lambda: torch.zeros(0, 0, dtype=torch.bool))  # (B, S) or (B, T)
    frames: int = 0  # S
    targets: list[tuple[Tensor, int]] = field(default_factory=list)  # (M, G) and V of each call
    predictions: list[Tensor] = field(default_factory=list)  # (M, G) of each call

    @contextmanager
    def watching(self, objective: Objective) -> Iterator[None]:
        """Listen to frontend, masking, quantizers and heads."""
        listen: dict[type[nn.Module], Callable[..., None]] = {
            type(objective.frontend): self.hear,
            Masking: self.mask,
            Quantizer: self.quantize,
            CodeHead: self.tell,
        }
        with ExitStack() as held:
            for module in objective.modules():
                for kind, note in listen.items():
                    if isinstance(module, kind):
                        held.callback(module.register_forward_hook(note).remove)
            yield

    def hear(self, _: nn.Module, __: Any, feats: Seq) -> None:
        self.frames = max(self.frames, feats.x.size(1))

    def mask(self, _: nn.Module, __: Any, mask: Tensor) -> None:
        self.masked = mask if self.masked.numel() == 0 else self.masked

    def quantize(self, part: Quantizer, _: Any, out: Codes) -> None:
        self.targets.append((out.ids.flatten(0, -2), part.codes))

    def tell(self, head: nn.Module, inputs: Any, _: Any) -> None:
        logits = head.forward(inputs[0])  # of a head that was asked for its loss too
        self.predictions.append(logits.argmax(-1).flatten(0, -2))

    def of(self, row: int, rows: int, frames: int) -> Tensor:
        """The mask of an utterance, of its first copy where several are masked; nothing masked where no mask was drawn."""
        if self.masked.numel() == 0:
            return torch.zeros(frames, dtype=torch.bool)
        return self.masked[row * (len(self.masked) // rows), :frames]

    def pairs(self) -> tuple[Tensor, Tensor, int]:
        """Targets and predictions, where there is one of each for every target, and V."""
        nothing = torch.zeros(0, 0, dtype=torch.long)
        if not self.targets:
            return nothing, nothing, 0
        targets, codes = self.targets[0]
        told = [ids for ids in self.predictions if ids.shape == targets.shape]
        return targets, told[0] if told else nothing, codes
