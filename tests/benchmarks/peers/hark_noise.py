"""hark's side of noisy training data: what a run reads, and its augmentation, which the step does on its device."""

import json
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

import torch

from research.compose import compose_config
from research.engine.gangs import start
from research.registry import build
from research.training.data import Planned
from research.training.memory import keep_freed_memory
from research.training.streamed import Streamed
from tests.benchmarks.peers.reading import rates

SOURCES = {"manifest": Planned, "cached": Planned, "lhotse": Streamed, "lhotse cached": Streamed}


def batches(work: dict[str, Any], kind: str, workers: int, cache: str = "") -> Iterator[tuple[int, int]]:
    words = ["data=lhotse" if kind.startswith("lhotse") else "data=manifest"]
    words += [f"data.train=[{work['manifest']}]", f"data.noise=[{work['noise']}]"]
    words += [f"data.cache={cache}"] if cache else []
    words += [
        f"data.workers={workers}",
        f"data.batch_seconds={work['batch_seconds']}",
        "augmentation=speaker_noise",
    ]
    cfg = compose_config(words).config
    augment = build(cfg.augmentation)
    for fed in SOURCES[kind](cfg, start("cpu")).train(0, []):
        with torch.no_grad():
            batch = augment(fed.batch)
        yield len(batch.ids), int(batch.noisy.lengths.sum())


def measured(work: dict[str, Any], kind: str, workers: int) -> dict[str, float]:
    if "cached" not in kind:
        return rates(batches(work, kind, workers), workers, work["seconds"])
    with tempfile.TemporaryDirectory() as folder:
        heard, earlier = 0, batches(work, kind, workers, folder)
        while heard < work["utterances"]:  # the first epoch
            heard += next(earlier)[0]
        return rates(batches(work, kind, workers, folder), workers, work["seconds"])


def main() -> None:
    work = json.loads(sys.argv[1])
    torch.set_num_threads(work["threads"])
    keep_freed_memory()  # as `hark train` does
    rows = [(kind, workers) for kind in SOURCES for workers in work["workers"]]
    found = {f"{kind}, {workers}": measured(work, kind, workers) for kind, workers in rows}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
