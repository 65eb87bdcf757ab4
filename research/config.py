"""The root config: sections here, one group per plugin kind; presets live in plugins, recipes in sweeps/.

Traps of Hydra 1.3: `_self_` must come first in `defaults` (after the groups it would turn their types back into
the base Config); configs cannot be frozen (every override would fail) and cannot hold Literal.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from research import registry
from research.contracts import Augmentation, Encoder, Frontend, Masking, Objective, Quantizer
from research.errors import HarkError
from research.health import PRESETS, Health
from research.schedules import Constant, Cosine, Noam, Schedule, TriStage


def volatile(default: Any) -> Any:
    """Mark a field that says how or where a run is done, not what it computes: no part of its signature."""
    factory = default if callable(default) else lambda: default
    return field(default_factory=factory, metadata={"volatile": True})


def deciding(default: Any, decides: Callable[[Any], bool]) -> Any:
    """Mark a field that is part of the signature only when its value decides what is computed."""
    return field(default_factory=default, metadata={"volatile": lambda value: not decides(value)})


class Precision(Enum):
    fp32 = "fp32"
    bf16 = "bf16"  # autocast; weights and targets stay fp32


class Parallel(Enum):
    ddp = "ddp"  # each holds all of it
    fsdp = "fsdp"  # each holds a part of it (FSDP2)


class Reader(Enum):
    auto = "auto"  # fairseq2's C++ pipeline where its bindings load, else torch
    fairseq2 = "fairseq2"
    torch = "torch"


@dataclass(kw_only=True)
class Run:
    name: str = "run"
    seed: int = 0
    folder: str = volatile("runs")  # run folders are made in here
    device: str = volatile("auto")  # auto, cpu, cuda, cuda:1, ...


@dataclass(kw_only=True)
class Data:
    train: list[str] = field(default_factory=list)  # manifests (JSONL)
    valid: list[str] = field(default_factory=list)
    noise: list[str] = field(default_factory=list)  # manifests of a noise corpus
    sample_rate: int = 16_000  # Hz; other rates are resampled
    min_seconds: float = 0.1  # shorter utterances are left out
    max_seconds: float = 60.0  # longer ones too
    batch_seconds: float = 100.0  # audio per batch, padding included
    buckets: int = 30  # of durations, at most: those that pad least
    bins: str = volatile(
        ""
    )  # a file of `hark bins` or `hark memory`; what it says goes into bounds and sizes
    bounds: list[float] = field(default_factory=list)  # of buckets (s), upper, rising, in place of `buckets`
    sizes: list[int] = field(default_factory=list)  # rows per batch in each, in place of `batch_seconds`
    max_bad: float = 0.01  # share of undecodable utterances at which a run stops
    strict: bool = False  # refuse other sample rates and channels instead of converting
    headers: bool = volatile(True)  # read that of every audio file before the first step, once
    reader: Reader = volatile(Reader.auto)
    workers: int = volatile(2)
    cache: str = volatile(
        ""
    )  # a folder on a local disk for decoded audio, 230 MB an hour: later epochs only copy; of streams, the noise


@dataclass(kw_only=True)
class Speed:
    """Other speeds, before anything else: targets change with it."""

    prob: float = 0.0  # of an utterance
    factors: list[float] = field(default_factory=lambda: [0.9, 1.1])  # of which one is drawn


@dataclass(kw_only=True)
class Mix:
    """Noise, mixed in while loading."""

    prob: float = 0.0  # of an utterance
    paths: list[str] = field(default_factory=list)  # manifests of a noise corpus
    snr: tuple[float, float] = (10.0, 20.0)  # dB, uniform
    clean: bool = False  # mix it into the clean side too, of which targets are made


@dataclass(kw_only=True)
class Reverb:
    """Rooms, while loading."""

    prob: float = 0.0  # of an utterance
    paths: list[str] = field(default_factory=list)  # manifests of impulse responses; none: drawn by lhotse
    clean: bool = False  # the clean side too, of which targets are made


class Cut(Enum):
    start = "start"
    end = "end"
    random = "random"


@dataclass(kw_only=True)
class Streams(Data):
    """`data=lhotse`: CutSets, Shar, tarred manifests and weighted mixtures, batched by lhotse's samplers.

    A source is a path, or a mapping; research/data/streams/README.md has them all.
    """

    train: list[Any] = field(default_factory=list)  # sources: paths or mappings
    valid: list[Any] = field(default_factory=list)
    lanes: int = 4  # parts of the data, shuffled and batched apart; fewer where one would not fill its buffer
    buffer: int = 5000  # utterances of a lane that wait in its buckets: the reach of the shuffling
    temperature: float = 1.0  # of the shares of a group's sources: 1 as they are, more evens them out
    quadratic_seconds: float = 0.0  # an utterance of d seconds counts as d + d^2 / this; 0: as d
    max_rows: int = 0  # per batch; 0: any
    keep: Any = None  # {key: value}: only lines whose key has this value, or one of these
    channel: Any = "average"  # or a number from 0, or the key of the line that holds it
    window_seconds: float = 0.0  # cut longer utterances into windows; 0: not
    window_hop: float = 0.0  # s between their starts; 0: window_seconds
    truncate_seconds: float = 0.0  # keep this much of longer utterances; 0: all
    truncate: Cut = Cut.random  # where the part lies that is kept
    speed: Speed = field(default_factory=Speed)
    mix: Mix = field(default_factory=Mix)
    reverb: Reverb = field(default_factory=Reverb)


@dataclass(kw_only=True)
class Train:
    steps: int = 1000
    batches: int = 1  # per step, over all ranks: each takes its share, one after another
    clip: float = 1.0  # gradient norm; 0 leaves it
    precision: Precision = Precision.fp32
    validate_every: int = 500
    parallel: Parallel = volatile(Parallel.ddp)  # what several ranks do with the model
    max_skipped: int = 20  # steps in a row with a non-finite loss or gradient before the run stops
    compile: bool = volatile(False)  # torch.compile on the blocks of encoders
    log_every: int = volatile(10)

    def share(self, ranks: int) -> int:
        """Batches per step of one of `ranks`; HarkError when they cannot share evenly."""
        if self.batches < 1 or self.batches % ranks:
            more = max(1, -(-self.batches // ranks)) * ranks
            raise HarkError(
                f"train.batches={self.batches}: a step's batches cannot be shared by {ranks} ranks; "
                f"type train.batches={more}"
            )
        return self.batches // ranks


@dataclass(kw_only=True)
class Optimizer:
    """AdamW, fused."""

    lr: float = 1.4e-3  # peak
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 1e-3


@dataclass(kw_only=True)
class Checkpoint:
    every: int = volatile(500)  # steps
    keep_last: int = volatile(2)
    keep_best: int = volatile(1)  # by the lowest `best`
    best: str = volatile("loss")  # a validation metric


@dataclass(kw_only=True)
class Log:
    wandb: str = volatile("offline")  # offline, online, disabled
    project: str = volatile("hark")
    group: str = volatile("")  # the sweep
    tags: list[str] = volatile(list)  # a sweep writes here what tells a run from its others
    artifact: bool = volatile(False)  # give W&B the final checkpoint too


class Where(Enum):
    loop = "loop"  # between two steps, in the process that trains
    job = "job"  # beside the training: a job of `cluster` for each step


@dataclass(kw_only=True)
class Watch:
    """Probes on the way: `hark probe RUN --step N` for every such step. They decide nothing that is trained."""

    every: int = 0  # steps between them; 0: never
    probes: list[str] = field(default_factory=lambda: ["phone_frames"])
    seeds: int = 2  # random inits, and samples of training sentences
    sentences: int = 50  # training sentences per seed
    words: str = ""  # more words of `hark probe`: "--dev 20"
    where: Where = Where.loop

    def due(self, step: int) -> bool:
        return self.every > 0 and step > 0 and step % self.every == 0


class Scheduler(Enum):
    local = "local"  # this machine: a process of ours starts one job after another
    slurm = "slurm"


@dataclass(kw_only=True)
class Cluster:
    """What a job gets: `cluster=NAME` takes sweeps/cluster/NAME.yaml. It decides nothing that is computed."""

    scheduler: Scheduler = Scheduler.local
    device: str = "cpu"  # of a rank; research/launch/devices.py knows their memory and speed
    nodes: int = 1
    per_node: int = 1  # ranks
    cpus: int = 2  # per rank
    memory_gb: float = 8.0  # of the host, per rank
    hours: float = 24.0  # time limit
    parallel: int = 0  # jobs of a sweep at a time; 0: one on this machine, on a cluster as many as it gives
    tries: int = 2  # a job that ended so often in a row with the same error is not started again
    warning: int = 120  # s before the time limit at which a job is told to save and queue again
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    extra: Any = None  # {option: value}: any others of sbatch, without their dashes
    setup: list[str] = field(default_factory=list)  # shell lines of a job before Python starts


@dataclass(kw_only=True)
class Training:
    """What every root config has: all that the training loop reads."""

    augmentation: Augmentation.Config = MISSING
    schedule: Schedule = MISSING
    run: Run = field(default_factory=Run)
    data: Data = field(default_factory=Data)
    train: Train = field(default_factory=Train)
    optimizer: Optimizer = field(default_factory=Optimizer)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    log: Log = field(default_factory=Log)
    cluster: Cluster = volatile(Cluster)


@dataclass(kw_only=True)
class Config(Training):
    """Pretraining."""

    defaults: list[Any] = field(
        default_factory=lambda: [
            "_self_",
            {"objective": "nest"},
            {"frontend": "log_mel"},
            {"encoder": "fastconformer_small"},
            {"quantizer": "random_projection"},
            {"masking": "block"},
            {"augmentation": "none"},
            {"schedule": "noam"},
            {"data": "manifest"},
            {"health": "on"},
            {"cluster": None},
            {"experiment": None},
        ]
    )
    objective: Objective.Config = MISSING
    frontend: Frontend.Config = MISSING
    encoder: Encoder.Config = MISSING
    quantizer: Quantizer.Config = MISSING
    masking: Masking.Config = MISSING
    health: Health = deciding(Health, Health.acts)
    watch: Watch = volatile(Watch)
    init: Any = None  # a path, or a list of paths and mappings: first weights; see research/interop/origin.py


ConfigStore.instance().store(name="config", node=Config)
registry.store("data", "manifest", Data())
registry.store("data", "lhotse", Streams())
for name, setting in PRESETS.items():
    registry.store("health", name, setting)
registry.store("schedule", "constant", Constant())
registry.store("schedule", "noam", Noam())
registry.store("schedule", "cosine", Cosine())
registry.store("schedule", "tri_stage", TriStage())
