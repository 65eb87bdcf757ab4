"""Memory and time of a training step on any device, without that device and without the memory."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from torch import Tensor, nn

from research.config import Config, Precision
from research.contracts import Batch, Seq, Stat
from research.engine.gangs import Nowhere
from research.errors import HarkError
from research.launch.devices import FRACTION, FRAGMENTS, LAUNCH, Device, find_device
from research.launch.live import Live
from research.launch.paper import META, on_paper
from research.model import check
from research.registry import build
from research.training import step as training
from research.training.data import Fed
from research.training.given import stand_in
from research.training.optimizer import adamw
from research.training.stats import StatBag

PARTS = ("weights", "gradients", "optimizer", "buffers", "ddp", "activations")
STEPS = 3  # the first finds what stays; masks are drawn at random: the peak is the highest of the others
BLOCK = 512  # bytes: what torch rounds allocations on CUDA up to


@dataclass(frozen=True)
class Prediction:
    """A training step from the second on, per rank."""

    peak: int  # bytes of tensors at the worst moment
    parts: dict[str, int]  # bytes at that moment by what they are for; they add up to the peak
    flops: int  # of the matrix products of a step
    seconds: float | None  # of a step; None: the device's speed is unknown
    needed: int  # bytes: the peak, and what a GPU takes beside tensors; on a CPU the peak


def predict(cfg: Config, rows: int, seconds: float, device: str = "cpu") -> Prediction:
    """Say what a step over `rows` utterances of `seconds` each takes on a device of research/launch/devices.py.

    The real step is done (augmentation, objective, backward, optimizer) on tensors without data. HarkError when the
    device is unknown, when the config is refused, or when the step cannot be done without values.
    """
    place = find_device(device)
    if cfg.train.compile:
        raise HarkError(
            "train.compile=true: what a compiled step needs cannot be predicted; type train.compile=false"
        )
    low = cfg.train.precision is Precision.bf16
    live = Live(["meta"] if place.cuda else ["meta", "cpu"], BLOCK if place.cuda else 1)
    share = cfg.train.share(cfg.cluster.nodes * cfg.cluster.per_node)
    alone = replace(cfg, train=replace(cfg.train, batches=share))  # what one rank does
    with on_paper(cuda=place.cuda, fused=place.bf16 > 0 or not low), live:
        try:
            run(alone, rows, seconds, live)
        except HarkError:
            raise
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise HarkError(
                f"a step of {rows} x {seconds:g} s cannot be predicted: {type(error).__name__}: {reason}"
            ) from error
    return conclude(live, place)


def run(cfg: Config, rows: int, seconds: float, live: Live) -> None:
    """Do the steps, and let `live` keep what the last of them need."""
    student = paper_student(cfg, live)
    fed = feed(student, rows, seconds)
    bag = StatBag(META)
    with patch.object(training, "read_back", sound):
        training.train_step(student, fed, 0, bag, stop=False)
        for state in student.optimizer.state.values():
            for tensor in state.values():
                live.see(tensor, "optimizer")
        live.reset()
        for step in range(1, STEPS):
            training.train_step(student, fed, step, bag, stop=False)


def paper_student(cfg: Config, live: Live) -> training.Student:
    """Build all that is stepped, and tell `live` what is what."""
    task = check(cfg).to(META).train()
    with META:
        augment = build(cfg.augmentation).to(META)
    for module in (task, augment):
        for buffer in module.buffers():
            live.see(buffer, "buffers")
    for parameter in task.parameters():
        live.see(parameter, "weights")
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(lambda p: live.see(p.grad, "gradients"))
            if cfg.cluster.nodes * cfg.cluster.per_node > 1:
                keep_bucket(parameter, live, only=cfg.train.batches == 1)
    optimizer = adamw(task, cfg.optimizer)
    return training.Student(task, task, augment, optimizer, Nowhere(), cfg)


def keep_bucket(parameter: nn.Parameter, live: Live, *, only: bool) -> None:
    """Have memory for a gradient that stays, as `engine.parallel.wrap` does; of a step's `only` batch it goes there.

    Of several, all but the last leave theirs beside it (`no_sync`).
    """
    bucket = torch.empty_like(parameter)
    live.see(bucket, "ddp")

    def hook(p: Tensor) -> None:
        if only:
            p.grad = bucket

    parameter.register_post_accumulate_grad_hook(hook)


def feed(student: training.Student, rows: int, seconds: float) -> Iterator[Fed]:
    """The same batch without end: (rows, seconds * rate) without padding or values."""
    data = student.cfg.data
    size = round(seconds * data.sample_rate)
    lengths = torch.full((rows,), size)

    def sound() -> Seq:
        return Seq(torch.empty(rows, size, device=META), lengths)  # (B, N)

    ids = [str(row) for row in range(rows)]
    batch = Batch.clean(sound(), noise=sound() if data.noise else None, ids=ids)
    batch = stand_in(batch, student.task)
    while True:
        yield Fed(batch, rows * seconds, Stat(torch.zeros(())))


def sound(_norm: Tensor, _sums: Tensor) -> training.Outcome:
    """A step without values is as good as finite."""
    return training.Outcome(sound=True, stop=False, seconds=0.0, loss=0.0, grad_norm=0.0)


def conclude(live: Live, place: Device) -> Prediction:
    peak = live.peak + place.workspace
    parts = {name: live.parts.get(name, 0) for name in PARTS} | {"workspace": place.workspace}
    spare = FRAGMENTS if place.cuda else 0.0
    return Prediction(
        peak=peak,
        parts=parts,
        flops=sum(live.flops.values()) // (STEPS - 1),
        seconds=duration(live, place) / (STEPS - 1) if place.cuda else None,
        needed=round(peak * (1 + spare)) + place.context,
    )


def duration(live: Live, place: Device) -> float:
    """Seconds of what was done: of the device, or of the host where that cannot keep it busy."""
    products = live.flops["low"] / (place.bf16 or place.fp32) + live.flops["full"] / place.fp32
    return max((products + live.traffic / place.bandwidth) / FRACTION, live.launches * LAUNCH)
