"""Checks of what the lines of the data say."""

import numpy as np

from research.config import Streams
from research.data.manifest import load
from research.data.streams.lanes import Lanes
from research.data.streams.sources import open_streams
from research.launch.checks.job import Job, Said, ok, refuse, warn
from research.launch.checks.manifest import manifest_of
from research.launch.checks.plan import buckets, plan_of, speech_of
from research.launch.checks.streams import lanes_of
from research.training.streamed import still

DROPPED_WARN, DROPPED_REFUSE = 0.05, 0.5  # shares: limits trim a corpus; what halves it is a slip
PADDING = 0.2  # share of the audio above which better bins are worth their while


def train(job: Job) -> Said:
    """Read every line of data.train."""
    speech = job.get(speech_of)
    if not isinstance(job.cfg.data, Streams) and job.get(manifest_of).stored:
        return refuse(f"{job.get(manifest_of).where(0)}: is stored features; pretraining reads audio")
    return ok(f"{speech.utterances:,} utterances, {speech.seconds / 3600:,.2f} hours")


def valid(job: Job) -> Said:
    """Read every line of data.valid, and look for what is trained on too."""
    cfg = job.cfg.data
    if not cfg.valid:
        return warn("data.valid names nothing: nothing is held out, and no checkpoint is the best")
    job.get(speech_of)
    return streamed(cfg) if isinstance(cfg, Streams) else listed(job)


def listed(job: Job) -> Said:
    found, trained = load(job.cfg.data.valid, job.cfg.data, headers=False), job.get(manifest_of)
    buckets(found.durations, job.cfg.data)
    shared = np.flatnonzero(np.isin(found.rows["key"], trained.rows["key"]))
    if len(shared):
        name = found.utterance(int(shared[0])).id
        return warn(f"{len(shared):,} of {len(found):,} utterances are trained on too, the first is '{name}'")
    return ok(f"{len(found):,} utterances, none of them in data.train")


def streamed(cfg: Streams) -> Said:
    """Of streams, files are compared, not utterances."""
    streams = open_streams(cfg.valid, cfg)
    buckets(Lanes(streams, still(cfg), seed=0).durations(), cfg)
    trained = {shard.name for stream in open_streams(cfg.train, cfg) for shard in stream.shards}
    held = [shard.name for stream in streams for shard in stream.shards]
    for name in held:
        if name in trained:
            return warn(f"{name} is trained on too")
    return ok(f"{len(held):,} files, none of them in data.train")


def filters(job: Job) -> Said:
    """Count what data.min_seconds, data.max_seconds and data.keep leave out."""
    speech = job.get(speech_of)
    share = sum(speech.left_out.values()) / max(1, speech.asked)
    if share == 0:
        return ok("nothing is left out")
    counts = ", ".join(f"{count:,} {reason}" for reason, count in speech.left_out.items())
    said = f"{share:.1%} are left out: {counts} (of {speech.asked:,})"
    if share <= DROPPED_WARN:
        return ok(said)
    verdict = refuse if share > DROPPED_REFUSE else warn
    return verdict(f"{said}; see data.min_seconds and data.max_seconds")


def bins(job: Job) -> Said:
    """Plan an epoch."""
    plan, cfg = job.get(plan_of), job.cfg.data
    longest, padding = plan.durations.max(), plan.padding()
    if plan.per_epoch < plan.group:
        return warn(
            f"an epoch has {plan.per_epoch:,} batches, a step takes {plan.group:,} of them: utterances are heard "
            "twice in a step; lower data.batch_seconds or train.batches"
        )
    if not cfg.sizes and longest > cfg.batch_seconds:
        return warn(
            f"an utterance of {longest:.1f} s is longer than data.batch_seconds={cfg.batch_seconds:g} and makes a "
            "batch of its own; lower data.max_seconds, or raise data.batch_seconds"
        )
    said = f"{len(plan.bounds)} buckets, {padding:.1%} padding"
    return warn(f"{said}; `hark bins` finds better ones") if padding > PADDING else ok(said)


def lanes(job: Job) -> Said | None:
    """Whether ranks get batches of like length."""
    cfg = job.cfg.data
    if not isinstance(cfg, Streams) or (count := job.get(lanes_of).count) % job.world == 0:
        return None
    return warn(
        f"{count} lanes are no multiple of the {job.world} ranks: in a step these get audio of unlike length, and wait "
        f"for each other; raise data.lanes={cfg.lanes}, or lower data.buffer={cfg.buffer} for small data"
    )
