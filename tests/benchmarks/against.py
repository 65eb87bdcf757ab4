"""Time the same step in hark and in a peer, turn by turn; print one JSON line with the ratios.

    make bench-peers
    python tests/benchmarks/against.py nest --layers 4 --dim 256 --batch 8 --seconds 8
    python tests/benchmarks/against.py nest --layers 17 --dim 512 --heads 8 --batch 4 --seconds 8 --dtype bf16
    python tests/benchmarks/against.py contrast --layers 4 --dim 256 --batch 8 --seconds 16

NeMo runs twice: as shipped, and `tuned`, its allocator told to keep freed memory, as hark's is. All three stay ready
in processes of their own, and only one works at a time: `--steps` steps in each of `--rounds` rounds. A ratio is the
peer's time over hark's, of medians within a round; told is the median over rounds with the least and the most.
`contrast` is w2v-BERT in hark, with codes and masked prediction, and NeMo's contrast alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NEMO = ROOT / "build/peers/nemo/bin/python"
KEEP = {"MALLOC_MMAP_THRESHOLD_": "34359738368", "MALLOC_TRIM_THRESHOLD_": "34359738368"}  # bytes


class Side:
    """A process that works when it is told to."""

    def __init__(self, command: list[str], work: dict[str, Any], env: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [*command, json.dumps(work)], cwd=ROOT, env=os.environ | env, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.answer()
        self.rounds: list[float] = []
        self.peak = 0

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{self.process.args}: ended with {self.process.wait()}; run it by hand to see why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def work(self, steps: int) -> Self:
        assert self.process.stdin is not None
        print(steps, file=self.process.stdin, flush=True)
        answer = self.answer()
        self.rounds.append(statistics.median(answer["seconds"]))
        self.peak = answer["peak_rss_mb"]
        return self

    def told(self, hark: "Side") -> dict[str, Any]:
        ratios = [mine / theirs for mine, theirs in zip(self.rounds, hark.rounds, strict=True)]
        found = {"step_s": round(statistics.median(self.rounds), 4), "peak_rss_mb": self.peak}
        if self is hark:
            return found
        spread = [round(value, 2) for value in (statistics.median(ratios), min(ratios), max(ratios))]
        return found | {"ratio": spread[0], "least": spread[1], "most": spread[2]}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", choices=["nest", "contrast"])
    for name, value in {"layers": 4, "dim": 256, "heads": 4, "batch": 8, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3)
    args = parser.parse_args()
    if not NEMO.exists():
        sys.exit(f"{NEMO}: is not there; type make bench-peers")
    work = {name: value for name, value in vars(args).items() if name not in ("rounds", "steps")}
    theirs = [str(NEMO), str(HERE / "peers/nemo_side.py")]
    sides = {
        "hark": Side([sys.executable, "-m", "tests.benchmarks.peers.hark_side"], work, {}),
        "nemo": Side(theirs, work, {}),
        "nemo_tuned": Side(theirs, work, KEEP),
    }
    for _ in range(args.rounds):
        for side in sides.values():
            side.work(args.steps)
    told = {name: side.told(sides["hark"]) for name, side in sides.items()}
    print(json.dumps(work | {"rounds": args.rounds, "steps": args.steps} | told))


if __name__ == "__main__":
    main()
