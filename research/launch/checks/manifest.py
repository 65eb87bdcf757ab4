"""What a run will hear of a manifest, and a sample of its files, by their headers alone."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from research.data import audio
from research.data.loader import Loaded, Loader
from research.data.manifest import Manifest, Utterance, load
from research.data.plan import Item
from research.launch.checks.job import Job
from research.launch.checks.speech import Speech

THREADS = 16  # that wait for headers


class Looked(NamedTuple):
    """What the header of one utterance's file says."""

    row: int
    where: str  # the line of the manifest
    one: Utterance
    part: bool  # the line names a segment
    header: audio.Header | None
    problem: audio.UndecodableError | None  # why there is none

    @property
    def surplus(self) -> float:
        """Seconds of the file after the utterance; below 0 when it ends too early."""
        return self.header.seconds - self.one.offset - self.one.duration if self.header else 0.0

    @property
    def short(self) -> bool:
        return self.surplus < -audio.SLACK


def manifest_of(job: Job) -> Manifest:
    return load(job.cfg.data.train, job.cfg.data, headers=False)


def of_manifest(job: Job) -> Speech:
    found = job.get(manifest_of)
    left_out = {reason: count for reason, count in found.left_out.items() if reason != "_skipme"}
    utterances = len(found) + sum(left_out.values())

    def hear(job: Job, wanted: int) -> Iterator[Loaded]:
        loader = Loader(found, None, replace(job.cfg.data, strict=False), job.cfg.run.seed)
        good = [each.row for each in job.get(sample_of) if each.header and not each.short]
        for row in good[:wanted]:  # of the others, other checks tell
            yield loader.load(Item(0, np.array([row])))

    return Speech(utterances, float(found.durations.sum()), found.durations, left_out, utterances, hear)


def sample_of(job: Job) -> list[Looked]:
    return look(job.get(manifest_of), job.sample, job.cfg.run.seed)


def look(manifest: Manifest, size: int, seed: int) -> list[Looked]:
    """Draw some utterances, and read the headers of their files."""
    rows: Sequence[int] = np.random.default_rng(seed).permutation(len(manifest))[:size].tolist()

    def one(row: int) -> Looked:
        utterance, where = manifest.utterance(row), manifest.where(row)
        part = "offset" in manifest.extra(row)  # noqa: S610  not Django's
        try:
            return Looked(row, where, utterance, part, audio.header(utterance.path), None)
        except audio.UndecodableError as error:
            return Looked(row, where, utterance, part, None, error)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, rows))
