"""Time `hark bins` beside plain passes over the same manifest; print one JSON line.

    python tests/benchmarks/bins.py --lines 1000000

Passes over a synthetic manifest, each in a process of its own, imports left out: `hark` reads durations and finds bins
of both strategies, without its cache; `json` takes the duration of every line with the standard library; `lhotse` makes a
cut of every line and hands it to lhotse's own estimate. `command_s` is all of `hark bins`, imports and picture included.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

WORDS = ["the", "of", "and", "to", "in", "that", "it", "was", "he", "for", "on", "with"]


def hark(path: Path) -> Callable[[], Any]:
    from research.data.bins import Part, equal, histogram, least_padding
    from research.data.scan import durations_of

    def run() -> Any:
        cells = histogram([Part(durations_of(path), 1.0)])
        return least_padding(cells, 30), equal(cells.longest, cells.seconds, 30)

    return run


def plain(path: Path) -> Callable[[], Any]:
    def run() -> Any:
        with path.open("rb") as file:
            return [json.loads(line)["duration"] for line in file]

    return run


def lhotse(path: Path) -> Callable[[], Any]:
    from lhotse import MonoCut, Recording, SupervisionSegment
    from lhotse.audio import AudioSource
    from lhotse.dataset.sampling.dynamic_bucketing import estimate_duration_buckets

    def cut(line: str) -> MonoCut:
        found = json.loads(line)
        name, seconds = found["audio_filepath"], found["duration"]
        source = AudioSource("file", [0], name)
        made = Recording(name, [source], 16_000, round(seconds * 16_000), seconds, [0]).to_cut()
        made.supervisions.append(SupervisionSegment(name, name, 0.0, seconds, text=found["text"]))
        return made

    def cuts() -> Iterator[MonoCut]:
        with path.open() as file:
            yield from map(cut, file)

    return lambda: estimate_duration_buckets(cuts(), 30)


PASSES = {"hark": hark, "json": plain, "lhotse": lhotse}


def write(path: Path, lines: int) -> None:
    """Lines of about 200 bytes, log-normal durations."""
    rng = np.random.default_rng(0)
    durations = rng.lognormal(2.0, 0.7, lines).clip(0.3, 40).round(4).tolist()
    text = " ".join(rng.choice(WORDS, 120))
    with path.open("w") as out:
        for i, seconds in enumerate(durations):
            name = f"train/{i % 997:03d}/{i % 89}/{i:08d}.flac"
            line = {"audio_filepath": name, "duration": seconds, "text": text[: int(12 * seconds)]}
            out.write(json.dumps(line) + "\n")


def one(name: str, path: Path) -> dict[str, float]:
    """Time one pass, in this process."""
    run = PASSES[name](path)
    before = time.perf_counter()
    run()
    seconds = time.perf_counter() - before
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        f"{name}_s": round(seconds, 2),
        f"{name}_peak_rss_mb": round(own.ru_maxrss / 1e3),
        f"{name}_worker_peak_rss_mb": round(workers.ru_maxrss / 1e3),
    }


def measure(lines: int, repeats: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path, env = Path(folder) / "train.jsonl", os.environ | {"XDG_CACHE_HOME": folder}
        write(path, lines)
        found: dict[str, Any] = {"lines": lines, "bytes": path.stat().st_size}
        for _ in range(repeats):
            for name in PASSES:
                told = json.loads(call(env, sys.executable, __file__, "--one", name, "--manifest", str(path)))
                if told[f"{name}_s"] < found.get(f"{name}_s", np.inf):
                    found |= told
        before = time.perf_counter()
        call(env, sys.executable, "-m", "research.cli", "bins", str(path), "--out", f"{folder}/bins.yaml")
        found["command_s"] = round(time.perf_counter() - before, 2)
    return found | {"times_lhotse": round(found["lhotse_s"] / found["hark_s"], 1)}


def call(env: dict[str, str], *words: str) -> str:
    return subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts")
    parser.add_argument("--one", choices=PASSES, help=argparse.SUPPRESS)
    parser.add_argument("--manifest", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    print(json.dumps(one(args.one, args.manifest) if args.one else measure(args.lines, args.repeats)))
