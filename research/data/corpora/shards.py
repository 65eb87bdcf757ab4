"""Sharded sets out of any manifests: in parallel, going on where an earlier try was stopped, verified.

<out>/summary.json   written last: a folder that has it is whole
<out>/LICENSES.md    those that lie beside the manifests
"""

import hashlib
import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, lockf
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from research.config import Data
from research.data import manifest
from research.data.corpora.codec import CODECS
from research.data.corpora.corpus import making
from research.data.corpora.pool import each, progress
from research.data.corpora.shard import finished
from research.data.corpora.sharding import PARTS, Job, Layout, Made
from research.data.corpora.tar import Tar
from research.data.manifest import Manifest
from research.errors import HarkError
from research.files import write

log = logging.getLogger(__name__)

VERSION = 1  # raise it when shards of the same inputs change
TOLD = 10  # utterances that the summary names


@dataclass(frozen=True, kw_only=True)
class Settings:
    shards: int | None = None
    shard_size: int = 1000  # utterances, when `shards` is not given
    codec: str = "flac"
    sample_rate: int | None = None  # Hz; None: as it is
    seed: int = 0  # of the order of the utterances; -1: that of the manifests
    min_seconds: float = 0.0
    max_seconds: float = inf


def prepare(name: str, paths: Sequence[Path], out: Path, settings: Settings, workers: int) -> Path:
    """Write the utterances of some manifests as `shar` or `tar` into `out`, and give it: the same bytes every time.

    Utterances that cannot be decoded are left out, logged and counted. HarkError: a manifest is not in order, `out`
    holds something else, the disk is full, the codec does not take the audio, a shard reads back differently.
    """
    check(settings, workers)
    layout = layout_of(name)
    with making(out), alone(out):
        cfg = Data(min_seconds=settings.min_seconds, max_seconds=settings.max_seconds)
        speech = manifest.load(paths, cfg, headers=False)
        if speech.stored:
            raise HarkError(
                f"{paths[0]}: holds features, not audio; name the manifest that they were made of"
            )
        inputs = facts(layout, speech, settings)
        agree(out, inputs)
        jobs = plan(layout, speech, out, settings)
        made = work(jobs, workers)
        layout.finish(out, len(jobs))
        write(out / "LICENSES.md", licences(speech))
        write(out / "summary.json", summary(made, layout, speech.left_out, inputs))
    return out


def layout_of(name: str) -> Layout:
    if name == "tar":
        return Tar()
    from research.data.corpora.shar import Shar  # noqa: PLC0415  lhotse takes seconds

    return Shar()


def check(settings: Settings, workers: int) -> None:
    """HarkError when a setting makes no sense."""
    if settings.codec not in CODECS:
        raise HarkError(f"--codec {settings.codec}: unknown (there are: {', '.join(CODECS)})")
    counts = {"shards": settings.shards, "shard-size": settings.shard_size, "workers": workers}
    for name, value in (counts | {"sample-rate": settings.sample_rate}).items():
        if value is not None and value < 1:
            raise HarkError(f"--{name} {value}: at least 1 is needed")
    if settings.seed < -1:
        raise HarkError(f"--seed {settings.seed}: at least 0, or -1 for the order of the manifests")


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Hold the folder, and clear away what a killed process left; HarkError when another one is at it."""
    parts = out / PARTS
    parts.mkdir(exist_ok=True)
    with (parts / "lock").open("w") as file:
        try:
            lockf(file, LOCK_EX | LOCK_NB)
        except OSError:
            raise HarkError(
                f"{out}: another process writes here; wait for it, or choose another --out"
            ) from None
        for folder in parts.glob("*.*/"):
            shutil.rmtree(folder)
        yield


def facts(layout: Layout, speech: Manifest, settings: Settings) -> dict[str, Any]:
    """What decides every byte of the set."""
    files = {str(source.path): sha256(source.path) for source in speech.sources}
    shards = settings.shards or -(-len(speech) // settings.shard_size)
    kept = {key: value for key, value in vars(settings).items() if key not in ("shards", "shard_size")}
    longest = {"max_seconds": None if settings.max_seconds == inf else settings.max_seconds}
    what = {"version": VERSION, "layout": type(layout).__name__.lower(), "manifests": files, "shards": shards}
    return what | kept | longest


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def agree(out: Path, inputs: Mapping[str, Any]) -> None:
    """HarkError when `out` holds anything but (a part of) this very set."""
    note = out / PARTS / "inputs.json"
    if not note.exists():
        if (out / "summary.json").exists():
            raise HarkError(f"{out}: holds another corpus; choose another --out")
        write(note, json.dumps(inputs))
        return
    before = json.loads(note.read_text())
    other = [key for key in inputs if inputs[key] != before.get(key)]
    if other:
        raise HarkError(
            f"{out}: holds shards of another set (not the same {', '.join(other)}); choose another --out or delete it"
        )


def plan(layout: Layout, speech: Manifest, out: Path, settings: Settings) -> list[Job]:
    """Share the utterances out, shard sizes within one of each other."""
    count = len(speech)
    shards = settings.shards or -(-count // settings.shard_size)
    if shards > count:
        raise HarkError(f"--shards {shards}: there are only {count} utterances")
    order = np.arange(count) if settings.seed < 0 else np.random.default_rng(settings.seed).permutation(count)
    return [
        Job(
            layout,
            out,
            number,
            Manifest(speech.sources, speech.rows[rows], {}),
            settings.codec,
            settings.sample_rate,
        )
        for number, rows in enumerate(np.array_split(order, shards))
    ]


def work(jobs: Sequence[Job], workers: int) -> list[Made]:
    """Make the shards that are not there yet."""
    made = {job.number: done for job in jobs if (done := finished(job))}
    todo = [job for job in jobs if job.number not in made]
    with progress() as bar:
        task = bar.add_task("shards", total=len(jobs), completed=len(made))
        for job, done in zip(todo, each(todo, min(workers, len(todo))), strict=True):
            made[job.number] = done
            for reason in done.bad:
                log.warning("utterance left out: %s", reason)
            bar.advance(task)
    return [made[job.number] for job in jobs]


def licences(speech: Manifest) -> str:
    """The licences beside the manifests, or whom to ask."""
    folders = dict.fromkeys(source.path.parent for source in speech.sources)
    found = [folder / "LICENSES.md" for folder in folders if (folder / "LICENSES.md").exists()]
    told = ", ".join(str(source.path) for source in speech.sources)
    unknown = f"# Licences\n\nThe audio was copied from what {told} names; whatever terms it has apply.\n"
    return "\n".join(file.read_text() for file in found) or unknown


def summary(
    made: Sequence[Made], layout: Layout, left_out: Mapping[str, int], inputs: Mapping[str, Any]
) -> str:
    bad = [reason for one in made for reason in one.bad]
    clipped = sum(one.clipped for one in made)
    seconds = sum(one.seconds for one in made)
    sums = {
        "utterances": sum(one.utterances for one in made),
        "minutes": round(seconds / 60, 2),
        "shards": len(made),
        "bytes": sum(size for one in made for size, _ in one.files.values()),
        "dropped": Counter(left_out) + Counter(undecodable=len(bad)),
        "splits": {},
        "notes": [
            f"{len(made)} shards of {inputs['codec']}: {CODECS[inputs['codec']].about}",
            layout.taken_by(len(made)),
            *([f"{clipped} utterances went beyond full scale and were clipped"] if clipped else []),
            *bad[:TOLD],
            *([f"and {len(bad) - TOLD} more that cannot be decoded"] if len(bad) > TOLD else []),
        ],
        "sha256": {name: digest for one in made for name, (_, digest) in one.files.items()},
        "inputs": inputs,
    }
    return json.dumps(sums, ensure_ascii=False, indent=1) + "\n"
