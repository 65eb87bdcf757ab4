"""The root config of `hark classify`: the sections that pretraining has too mean the same here."""

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from research.config import Checkpoint, Data, Log, Optimizer, Run, Train, Training, volatile
from research.downstream import Aggregation, Criterion, Head
from research.nn.spec_augment import SpecAugment


@dataclass(kw_only=True)
class Origin:
    """Where the frontend and the encoder come from. `upstream=PATH` is short for `upstream.path=PATH`."""

    path: str = ""  # a hark run, a .nemo file, a Hugging Face folder, ...
    step: int | None = None  # of a hark run; the newest when the command is first typed
    layers: Any = (
        "all"  # all, last, or a list of numbers: 0 is what the first block reads, k what block k gives
    )


@dataclass(kw_only=True)
class Tune:
    """From when on the encoder is trained too. Its frontend never is."""

    start: int | None = None  # step; null keeps the encoder frozen
    lr_scale: float = 0.1  # the encoder's share of the learning rate


@dataclass(kw_only=True)
class Labelled(Data):
    """`train` is learnt from, `valid` chooses the checkpoint and the learning rate, `test` is read once."""

    batch_seconds: float = 60.0
    buckets: int = 10
    test: list[str] = field(default_factory=list)
    trials: list[str] = field(default_factory=list)  # lists of pairs of test utterances: `1 id id`, `0 id id`


@dataclass(kw_only=True)
class Classification(Training):
    """One task on one upstream. Every representation and every seed is a run of its own inside this one's folder."""

    defaults: list[Any] = field(
        default_factory=lambda: [
            "_self_",
            {"aggregation": "weighted_sum_norm"},
            {"head": "linear"},
            {"criterion": "cross_entropy"},
            {"augmentation": "none"},
            {"schedule": "tri_stage"},
            {"classify": None},
        ]
    )
    upstream: Origin = field(default_factory=Origin)
    label: str = ""  # the manifest key that is predicted
    aggregation: Aggregation.Config = MISSING
    head: Head.Config = MISSING
    criterion: Criterion.Config = MISSING
    spec_augment: SpecAugment = field(default_factory=lambda: SpecAugment(freq_masks=0, time_masks=0))
    tune: Tune = field(default_factory=Tune)
    run: Run = field(default_factory=lambda: Run(name="classify"))
    data: Labelled = field(default_factory=Labelled)
    train: Train = field(default_factory=lambda: Train(steps=600, validate_every=100, log_every=100))
    optimizer: Optimizer = field(default_factory=lambda: Optimizer(lr=2e-3, weight_decay=2e-4))
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(every=100, best="error"))
    log: Log = field(default_factory=lambda: Log(wandb="disabled"))  # it takes longer than most heads
    lr_grid: list[float] = field(default_factory=list)  # rates that `valid` chooses from; empty: optimizer.lr
    representation: str = "pretrained"  # of one run: pretrained, random_init, or a frontend's name
    seeds: int = volatile(3)  # runs of each representation, from run.seed on
    # log_mel takes the mean and the scale out of every utterance, and with them much of voice and channel; raw keeps them
    baselines: list[str] = volatile(lambda: ["random_init", "log_mel", "log_mel_raw"])
    confound: str = volatile("")  # what else could tell the labels apart: printed below the table


ConfigStore.instance().store(name="classification", node=Classification)
