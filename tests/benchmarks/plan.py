"""Time from a manifest to the first batch of an epoch; print one JSON line.

    python tests/benchmarks/plan.py --lines 1000000
    python tests/benchmarks/plan.py --lines 10000000

A synthetic manifest, whose audio is not there (`headers=False`): `scan_s` is reading it for the first time, the rest what
every later start costs, in a process of its own: load the columns, plan, give the first batch and that of another epoch.
Imports are left out. `rank_spread` is how much longer, in padded seconds, the longest row of a step's ranks is than its
shortest, as a mean over steps: what ranks wait for one another. `mixed` is the share of steps with more than one bucket.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RANKS = 2
STEPS = 10_000


def write(path: Path, lines: int) -> dict[str, int]:
    """Lines of about 100 bytes; durations like those of read books: most of 12 to 16 s, none over 35 s."""
    rng = np.random.default_rng(0)
    usual, rest = rng.normal(14.6, 1.1, lines), rng.lognormal(2.0, 0.6, lines)
    durations = np.where(rng.random(lines) < 0.6, usual, np.where(rest < 35, rest, 20.0)).clip(0.5).round(3)
    with path.open("w") as out:
        for i, seconds in enumerate(durations.tolist()):
            name = f"train/{i % 997:03d}/{i % 89}/{i:08d}.flac"
            out.write(f'{{"audio_filepath": "{name}", "duration": {seconds}, "text": "so it was"}}\n')
    return {"lines": lines, "bytes": path.stat().st_size}


def scan(path: Path, lines: int) -> dict[str, float]:
    from research.data.scan import rows_of

    before = time.perf_counter()
    rows_of(path, headers=False)
    return {"scan_s": round(time.perf_counter() - before, 2), "scan_peak_rss_mb": peak()}


def plan(path: Path, lines: int) -> dict[str, float]:
    before = time.perf_counter()
    from research.config import Data
    from research.data import manifest
    from research.data.plan import Plan, by_budget

    times = [before, time.perf_counter()]
    imported = peak()
    cfg = Data(headers=False)
    speech = manifest.load([path], cfg, headers=cfg.headers)
    times.append(time.perf_counter())
    durations = speech.durations
    made = Plan(durations, *by_budget(durations, cfg), group=RANKS)
    times.append(time.perf_counter())
    first = made[0]
    times.append(time.perf_counter())
    assert speech.utterance(int(first.rows[0])).duration > 0
    high = peak()
    _ = made[17 * made.per_epoch + 4]
    times.append(time.perf_counter())
    names = ("import_s", "load_s", "plan_s", "first_batch_s", "other_epoch_s")
    found = {name: round(float(s), 3) for name, s in zip(names, np.diff(times), strict=True)}
    found |= {"peak_rss_mb": high, "imported_rss_mb": imported, "batches": made.per_epoch}
    return found | {"padding": round(made.padding(), 4), "buckets": len(made.bounds)} | waits(made, durations)


def waits(made: Any, durations: Any) -> dict[str, float]:
    """How far the ranks of a step lie apart."""
    steps = min(STEPS, made.per_epoch // RANKS)
    batches = [[made[step * RANKS + rank].rows for rank in range(RANKS)] for step in range(steps)]
    longest = np.array([[durations[rows].max() for rows in step] for step in batches])  # (S, R) s
    rows = np.array([[len(rows) for rows in step] for step in batches])
    padded = longest * rows
    buckets = np.searchsorted(made.bounds, longest)
    return {
        "rank_spread_s": round(float((padded.max(1) - padded.min(1)).mean()), 3),
        "rank_spread": round(float((padded.max(1) - padded.min(1)).mean() / padded.mean()), 4),
        "mixed": float((buckets.max(1) != buckets.min(1)).mean()),
    }


def peak() -> int:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)


def measure(lines: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path, env = Path(folder) / "train.jsonl", os.environ | {"XDG_CACHE_HOME": folder}
        found: dict[str, Any] = {}
        for name in PARTS:
            words = [sys.executable, __file__, "--part", name, "--manifest", str(path), "--lines", str(lines)]
            done = subprocess.run(words, env=env, stdout=subprocess.PIPE, text=True, check=True)
            found |= json.loads(done.stdout)
    return found


PARTS = {"write": write, "scan": scan, "plan": plan}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--manifest", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    print(json.dumps(PARTS[args.part](args.manifest, args.lines) if args.part else measure(args.lines)))
