"""The batches of a run."""

from research.config import Data, Streams
from research.data.plan import Floats, Ints, Plan, by_budget
from research.data.streams.batches import limits
from research.launch.checks.job import Job
from research.launch.checks.manifest import of_manifest
from research.launch.checks.speech import Speech
from research.launch.checks.streams import of_streams


def speech_of(job: Job) -> Speech:
    """Read every line of data.train; HarkError as in the run, but for what only audio files tell."""
    data = job.cfg.data
    return of_streams(job, data) if isinstance(data, Streams) else of_manifest(job)


def plan_of(job: Job) -> Plan:
    """Batches as every rank will plan them; those of streams are like them."""
    cfg, durations = job.cfg, job.get(speech_of).durations
    bounds, sizes = buckets(durations, cfg.data)
    return Plan(durations.clip(max=bounds[-1]), bounds, sizes, group=cfg.train.batches, seed=cfg.run.seed)


def buckets(durations: Floats, cfg: Data) -> tuple[Floats, Ints]:
    """Bounds (s) and rows per batch in each; HarkError when they do not fit the durations."""
    return limits(durations, cfg) if isinstance(cfg, Streams) else by_budget(durations, cfg)
