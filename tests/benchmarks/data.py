"""Time what reads a corpus, row by row in turn; print one JSON line for each.

    python tests/benchmarks/data.py --manifest data/debspeech-full/train.jsonl --workers 2 --seconds 10 --repeats 5

plan      `data=manifest`, with fairseq2's C++ reader and with torch's, and with `data.cache` after an epoch
stream    `data=lhotse` on the manifest, on a Shar and on tars that `hark prepare` makes of it, with both readers
lhotse    lhotse alone: its bucketing sampler and its own dataset of waveforms in torch's DataLoader
plain     torch's DataLoader in one process: shuffled utterances, soundfile.read of each, batches of as many rows as
          those of the plan on average, padded
decode    soundfile.read of shuffled utterances in one process and nothing else: what a core can decode at most

Rates are of the seconds after the first batch, `first_batch_s` of what comes before it but imports; the manifest's
columns, the shards' indexes and the files are in their caches. `cpu_ms` is what all processes together spend on an
utterance, as `cpu_s_per_audio_hour` is on audio: where others use the machine, they tell more than rates do. Figures
are medians over repeats, `utterances_per_s_range` has the extremes.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import lhotse
import numpy as np
import soundfile
import torch
from lhotse.dataset import DynamicBucketingSampler, UnsupervisedWaveformDataset
from lhotse.dataset.iterable_dataset import IterableDatasetWrapper
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

from research.compose import compose_config
from research.config import Config, Data
from research.data import manifest
from research.data.corpora.shards import Settings, prepare
from research.data.manifest import Manifest
from research.data.plan import Plan, by_budget
from research.engine.gangs import Ranks, start
from research.training.data import Planned, Source
from research.training.streamed import Streamed

BUCKETS, BATCH_SECONDS = Data.buckets, Data.batch_seconds
READERS = ("fairseq2", "torch")


class Heard(NamedTuple):
    """A batch, by its numbers."""

    utterances: int
    seconds: float
    padded: float  # seconds with padding


class Row(NamedTuple):
    name: str
    workers: int
    read: Callable[[], Iterator[Heard]]


class Took(NamedTuple):
    """One repeat of a row."""

    first: float  # s
    seconds: float
    batches: int
    utterances: int
    audio: float  # s
    padded: float  # s
    cpu: float  # s


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10.0, help="of every repeat of a row")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sets", type=Path, default=Path("data/sets"), help="where shards are kept")
    parser.add_argument("--codec", default="flac", help="of the shards")
    parser.add_argument("--rows", default="", help="only rows with this in their names")
    return parser.parse_args()


# ---- hark ----


def fed(made: type[Source], cfg: Config, ranks: Ranks) -> Iterator[Heard]:
    for one in made(cfg, ranks).train(0, []):
        yield Heard(len(one.batch.ids), one.seconds, one.padding.weight)


def ours(args: argparse.Namespace, sets: dict[str, Path], ranks: Ranks) -> Iterator[Row]:
    for name, path in {"plan": args.manifest, "stream of files": args.manifest, **sets}.items():
        made, data = (Planned, "manifest") if name == "plan" else (Streamed, "lhotse")
        for reader in READERS:
            words = [f"data={data}", f"data.train=[{path}]", f"data.reader={reader}"]
            cfg = compose_config([*words, f"data.workers={args.workers}"]).config
            yield Row(f"{name}, {reader}", args.workers, partial(fed, made, cfg, ranks))


def kept(args: argparse.Namespace, ranks: Ranks) -> Row:
    words = f"data.train=[{args.manifest}] data.cache={args.sets / 'decoded'} data.workers={args.workers}"
    cfg = compose_config(words.split()).config
    source = Planned(cfg, ranks)
    for _ in source.in_order(source.speech):  # what an earlier epoch does
        pass
    return Row("plan, decoded before", args.workers, partial(fed, Planned, cfg, ranks))


# ---- lhotse alone ----


def cuts_of(speech: Manifest) -> lhotse.CutSet:
    cuts = []
    for row in range(len(speech)):
        one, rate = speech.utterance(row), int(speech.rows["rate"][row])
        source = lhotse.AudioSource("file", [0], one.path)
        end = one.offset + one.duration
        recording = lhotse.Recording(one.id, [source], rate, round(end * rate), end, [0])
        cuts.append(lhotse.MonoCut(one.id, one.offset, one.duration, 0, recording=recording))
    return lhotse.CutSet.from_cuts(cuts)


def by_lhotse(open_cuts: Callable[[], lhotse.CutSet], workers: int, *, shards: bool) -> Iterator[Heard]:
    """As lhotse's guide has it: of files the sampler stays in the main process, of shards it goes to the workers."""
    cuts, dataset = open_cuts(), UnsupervisedWaveformDataset()
    for epoch in count():
        sampler = DynamicBucketingSampler(
            cuts, max_duration=BATCH_SECONDS, num_buckets=BUCKETS, shuffle=True, seed=epoch
        )
        if shards:
            loader = DataLoader(
                IterableDatasetWrapper(dataset, sampler), batch_size=None, num_workers=workers
            )
        else:
            loader = DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=workers)
        for batch in loader:
            lengths, audio = batch["audio_lens"], batch["audio"]
            yield Heard(len(lengths), int(lengths.sum()) / 16_000, audio.numel() / 16_000)


def alone(args: argparse.Namespace, shar: Path, speech: Manifest, folder: Path) -> list[Row]:
    path = folder / "cuts.jsonl"
    cuts_of(speech).to_file(path)

    def files(workers: int) -> Iterator[Heard]:
        return by_lhotse(lambda: lhotse.CutSet.from_file(path), workers, shards=False)

    def shards() -> lhotse.CutSet:
        return lhotse.CutSet.from_shar(in_dir=shar, shuffle_shards=True, split_for_dataloading=True, seed=0)

    return [
        *(Row("lhotse on files", workers, partial(files, workers)) for workers in (0, args.workers)),
        Row("lhotse on shar", args.workers, partial(by_lhotse, shards, args.workers, shards=True)),
    ]


# ---- as anybody would ----


def samples_of(speech: Manifest, row: int) -> torch.Tensor:
    one = speech.utterance(row)
    begin, frames = round(one.offset * 16_000), round(one.duration * 16_000)
    return torch.from_numpy(soundfile.read(one.path, frames, begin, dtype="float32")[0])


class Utterances(torch.utils.data.Dataset[torch.Tensor]):
    def __init__(self, speech: Manifest) -> None:
        self.speech = speech

    def __len__(self) -> int:
        return len(self.speech)

    def __getitem__(self, row: int) -> torch.Tensor:
        return samples_of(self.speech, row)


def collate(clips: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    return pad_sequence(clips, batch_first=True), torch.tensor([len(clip) for clip in clips])


def plain(path: Path, rows: int) -> Iterator[Heard]:
    speech = manifest.load([path], Data())
    loader = DataLoader(Utterances(speech), batch_size=rows, shuffle=True, collate_fn=collate)
    for _ in count():
        for audio, lengths in loader:
            yield Heard(len(lengths), int(lengths.sum()) / 16_000, audio.numel() / 16_000)


def decode(speech: Manifest) -> Iterator[Heard]:
    rng = np.random.default_rng(0)
    for row in iter(lambda: int(rng.integers(len(speech))), None):
        seconds = len(samples_of(speech, row)) / 16_000
        yield Heard(1, seconds, seconds)


# ---- all of them ----


def rows_of(args: argparse.Namespace) -> list[Row]:
    speech = manifest.load([args.manifest], Data())
    plan = Plan(speech.durations, *by_budget(speech.durations, Data()))
    settings, sets = Settings(codec=args.codec), {}
    for name in ("shar", "tar"):
        sets[name] = prepare(
            name, [args.manifest], args.sets / f"{name}-{args.codec}", settings, args.workers
        )
    paths = {"stream of shar": sets["shar"] / "shar", "stream of tar": sets["tar"]}
    mean, ranks = round(len(speech) / plan.per_epoch), start("cpu")
    rows = [
        *ours(args, paths, ranks),
        kept(args, ranks),
        *alone(args, paths["stream of shar"], speech, args.sets),
        Row("plain", 0, partial(plain, args.manifest, mean)),
        Row("decode", 0, partial(decode, speech)),
    ]
    return [row for row in rows if args.rows in row.name]


def cpu() -> float:
    """Seconds of this process and of all that ended before."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def take(row: Row, seconds: float) -> Took:
    used, begin = cpu(), time.perf_counter()
    batches = row.read()
    next(batches)
    first = now = time.perf_counter()
    heard = [Heard(0, 0.0, 0.0)]
    while now - first < seconds:
        heard.append(next(batches))
        now = time.perf_counter()
    del batches  # and with it its workers
    total = Heard(*map(sum, zip(*heard, strict=True)))
    return Took(first - begin, now - first, len(heard) - 1, *total, cpu() - used)


def report(row: Row, took: list[Took]) -> dict[str, Any]:
    rates, share = [one.utterances / one.seconds for one in took], max(1, row.workers)
    hours = statistics.median(one.audio / one.seconds for one in took) / 3600
    rate = statistics.median(rates)
    return {
        "row": row.name,
        "workers": row.workers,
        "utterances_per_s": round(rate),
        "utterances_per_s_per_worker": round(rate / share),
        "utterances_per_s_range": [round(min(rates)), round(max(rates))],
        "audio_hours_per_s": round(hours, 3),
        "audio_hours_per_s_per_worker": round(hours / share, 3),
        "first_batch_s": round(statistics.median(one.first for one in took), 3),
        "rows_per_batch": round(sum(one.utterances for one in took) / sum(one.batches for one in took), 1),
        "padding": round(1 - sum(one.audio for one in took) / sum(one.padded for one in took), 4),
        "cpu_ms": round(1e3 * statistics.median(one.cpu / one.utterances for one in took), 3),
        "cpu_s_per_audio_hour": round(3600 * statistics.median(one.cpu / one.audio for one in took), 3),
    }


def machine(args: argparse.Namespace) -> dict[str, Any]:
    with args.manifest.open("rb") as file:
        lines = sum(1 for _ in file)
    return {
        "manifest": str(args.manifest),
        "lines": lines,
        "codec_of_shards": args.codec,
        "device": "cpu",
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "fairseq2", "lhotse", "soundfile")},
    }


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    rows = rows_of(args)
    for row in rows:
        next(row.read())
    took: dict[Row, list[Took]] = {row: [] for row in rows}
    for _ in range(args.repeats):
        for row in rows:
            took[row].append(take(row, args.seconds))
    facts = machine(args) | {"seconds": args.seconds, "repeats": args.repeats}
    for row in rows:
        print(json.dumps(report(row, took[row]) | facts))


if __name__ == "__main__":
    main()
