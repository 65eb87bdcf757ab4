"""Checks of what was typed."""

from research import registry, runs
from research.engine.weights import steps
from research.interop.copying import match
from research.interop.initialise import advice
from research.interop.load import read
from research.interop.origin import origins
from research.launch.checks.job import Job, Said, objective_of, ok, refuse, warn

COUNTS = (
    "train.steps",
    "train.batches",
    "train.validate_every",
    "train.log_every",
    "checkpoint.every",
    "checkpoint.keep_last",
)  # that are at least 1
WANDB = ("offline", "online", "disabled")


def config(job: Job) -> Said:
    """Build the model on the meta device, which refuses illegal combinations."""
    objective = job.get(objective_of)
    size = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    return ok(f"{size / 1e6:.2f}M trained parameters, signature {runs.signature(job.cfg)}")


def plugins(_job: Job) -> Said | None:
    """Tell of plugins that did not import; the config names none of them, for it was composed."""
    return warn(broken()) if registry.broken else None


def broken() -> str:
    return f"skipped: {'; '.join(registry.skipped())}"


def settings(job: Job) -> Said | None:
    """Numbers that would stop a run when they are first used."""
    cfg = job.cfg
    for key in COUNTS:
        section, name = key.split(".")
        value = getattr(getattr(cfg, section), name)
        if value < 1:
            return refuse(f"{key}={value}: must be at least 1")
    cfg.train.share(job.world)
    if cfg.checkpoint.keep_best < 0:
        return refuse(f"checkpoint.keep_best={cfg.checkpoint.keep_best}: must be at least 0")
    if cfg.log.wandb not in WANDB:
        return refuse(f"log.wandb={cfg.log.wandb}: type one of {', '.join(WANDB)}")
    return None


def init(job: Job) -> Said | None:
    """Read the first weights, and see that they fit; a run that goes on needs none."""
    said = [] if steps(job.folder / "checkpoints") else job.get(copied_of)
    return ok("; ".join(said)) if said else None


def copied_of(job: Job) -> list[str]:
    """Say what is copied of each source; HarkError as in the run."""
    cfg, said = job.cfg, list[str]()
    for origin in origins(cfg.init):
        source = read(origin.path, origin.step)
        copied = match(origin, source, job.get(objective_of).state_dict())
        copied.require(advice(copied.failed, source, cfg))
        said.append(copied.summary)
    return said


def run(job: Job) -> Said:
    """Whether the same signature has been run."""
    folder = job.folder
    if not folder.exists():
        return ok(f"new: {folder}")
    try:
        with runs.only_one(folder):
            done = max(steps(folder / "checkpoints"), default=0)
    except OSError as error:
        return refuse(f"{folder}: cannot be written ({error.strerror})")
    if runs.finished(folder):
        return warn(f"{folder}: is finished after {job.cfg.train.steps} steps; the job would do nothing")
    return ok(f"{folder}: goes on after step {done}")
