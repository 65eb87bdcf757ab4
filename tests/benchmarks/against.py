"""Time the same step in hark and in a peer, turn by turn; print one JSON line with the ratios.

    make bench-peers
    python tests/benchmarks/against.py nest
    python tests/benchmarks/against.py nest --size large --dtype bf16
    python tests/benchmarks/against.py contrast
    python tests/benchmarks/against.py wav2vec2 --peer fairseq2
    python tests/benchmarks/against.py wav2vec2 --peer speechbrain
    python tests/benchmarks/against.py best_rq --peer speechbrain --sides hark,speechbrain_tuned

The peer runs twice: as shipped, and `tuned`, its allocator told to keep freed memory, as hark's is. All sides stay ready
in processes of their own, and only one works at a time: `--steps` steps in each of `--rounds` rounds. A ratio is the
peer's time over hark's, of medians within a round. Told are its median over rounds, the least and the most, and `low` and
`high`, a 95% interval: Student's t on the logarithms of the rounds' ratios. `parameters` are those that are trained.
`contrast` is w2v-BERT in hark, with codes and masked prediction, and NeMo's contrast alone.
"""

import json
import os
import shlex
import statistics
import subprocess
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.stats import ttest_1samp

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
KEEP = {"MALLOC_MMAP_THRESHOLD_": "34359738368", "MALLOC_TRIM_THRESHOLD_": "34359738368"}  # bytes
SIZES = {
    "small": {"layers": 4, "dim": 256, "heads": 4, "batch": 8},
    "large": {"layers": 17, "dim": 512, "heads": 8, "batch": 4},
}
SECONDS = {"nest": 8.0, "contrast": 16.0, "wav2vec2": 4.0, "best_rq": 8.0}  # of a clip
PEERS = {"nemo": ["nest", "contrast"], "fairseq2": ["wav2vec2"], "speechbrain": ["wav2vec2", "best_rq"]}


class Side:
    """A process that works when it is told to."""

    def __init__(self, command: list[str], work: dict[str, Any], env: dict[str, str]) -> None:
        self.command = [*command, json.dumps(work)]
        self.process = subprocess.Popen(
            self.command, cwd=ROOT, env=os.environ | env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.parameters = self.answer()["parameters"]
        self.rounds: list[float] = []
        self.peak = 0

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"ended with {self.process.wait()}; to see why: echo 1 | {shlex.join(self.command)}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def work(self, steps: int) -> Self:
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        answer = self.answer()
        self.rounds.append(statistics.median(answer["seconds"]))
        self.peak = answer["peak_rss_mb"]
        return self

    def told(self, hark: "Side | None") -> dict[str, Any]:
        step = round(statistics.median(self.rounds), 4)
        found = {"step_s": step, "peak_rss_mb": self.peak, "parameters": self.parameters}
        if hark in (None, self):
            return found
        return found | compared(
            [mine / theirs for mine, theirs in zip(self.rounds, hark.rounds, strict=True)]
        )


def compared(ratios: list[float]) -> dict[str, float]:
    """Median, 95% interval and extremes of one ratio a round."""
    low, high = np.exp(ttest_1samp(np.log(ratios), 0).confidence_interval(0.95))
    named = {
        "ratio": statistics.median(ratios),
        "low": low,
        "high": high,
        "least": min(ratios),
        "most": max(ratios),
    }
    return {name: round(float(value), 2) for name, value in named.items()}


def commands(peer: str) -> dict[str, tuple[list[str], dict[str, str]]]:
    """Every side by name: its command, and what it has in its environment."""
    theirs = [str(ROOT / f"build/peers/{peer}/bin/python"), str(HERE / f"peers/{peer}_side.py")]
    ours = [sys.executable, "-m", "tests.benchmarks.peers.hark_side"]
    return {"hark": (ours, {}), peer: (theirs, {}), f"{peer}_tuned": (theirs, KEEP)}


def read(words: list[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=list(SECONDS))
    parser.add_argument("--peer", choices=list(PEERS), default="nemo")
    parser.add_argument("--sides", help="some of hark,PEER,PEER_tuned; all if not given")
    parser.add_argument("--size", choices=list(SIZES), default="small")
    for name in SIZES["small"]:
        parser.add_argument(f"--{name}", type=int, help="instead of that of --size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, help="of a clip; depends on the work if not given")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args(words)
    if args.work not in PEERS[args.peer]:
        parser.error(f"{args.work}: --peer {args.peer} has {', '.join(PEERS[args.peer])}")
    known = commands(args.peer)
    args.sides = args.sides.split(",") if args.sides else list(known)
    if not set(args.sides) <= set(known):
        parser.error(f"--sides {','.join(args.sides)}: choose from {','.join(known)}")
    if args.rounds < 2:
        parser.error(f"--rounds {args.rounds}: an interval needs 2 or more")
    return args


def work_of(args: Namespace) -> dict[str, Any]:
    """What every side is told of the work."""
    given = {
        name: value for name, value in vars(args).items() if name in SIZES["small"] and value is not None
    }
    shared = {"threads": args.threads, "seconds": args.seconds or SECONDS[args.work], "dtype": args.dtype}
    return {"work": args.work, "peer": args.peer} | SIZES[args.size] | given | shared


def main() -> None:
    args = read()
    work, known = work_of(args), commands(args.peer)
    for name in args.sides:
        if not Path(known[name][0][0]).exists():
            sys.exit(f"{known[name][0][0]}: is not there; type make bench-peers")
    sides = {name: Side(known[name][0], work, known[name][1]) for name in args.sides}
    for _ in range(args.rounds):
        for side in sides.values():
            side.work(args.steps)
    told = {name: side.told(sides.get("hark")) for name, side in sides.items()}
    print(json.dumps(work | {"rounds": args.rounds, "steps": args.steps} | told))


if __name__ == "__main__":
    main()
