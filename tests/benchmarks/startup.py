"""Time a process from its start to the end of its first training step, in hark and in NeMo; print one JSON line.

    make bench-peers
    python -m tests.benchmarks.startup
    python -m tests.benchmarks.startup --layers 17 --dim 512 --heads 8 --repeats 3

Both train NEST of the same dimensions for one step on the same batch of real speech, with an empty folder and an empty
cache: `hark train`, which also writes its metrics and a checkpoint, and NeMo's model from its config with Lightning's
Trainer, which is told to log and to save nothing. `wall_s` is of the whole process, `cpu_s` what it and its workers
computed. A ratio is NeMo's time over hark's in one turn; told is the median over turns with the least and the most.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.turns import Took, hark, middle, nemo, rounds, spread, turn

MEASURES = {"wall_s": "wall", "cpu_s": "cpu", "peak_rss_mb": "rss"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, default=Path("data/debspeech-mini/train.jsonl"))
    for name, value in {"layers": 2, "dim": 64, "heads": 4, "rows": 8, "workers": 0, "threads": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def batch(args: argparse.Namespace, path: Path) -> float:
    """Write the manifest of utterances of 4 to 8 s that make one batch; give their seconds."""
    lines = [json.loads(line) for line in args.manifest.read_text().splitlines()]
    lines = [line for line in lines if 4 <= line["duration"] <= 8][: args.rows]
    for line in lines:
        line["audio_filepath"] = str(args.manifest.absolute().parent / line["audio_filepath"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return sum(line["duration"] for line in lines)


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "speech.jsonl"
        facts: dict[str, Any] = {"audio_s": round(batch(args, manifest), 1)}
        facts |= {name: value for name, value in vars(args).items() if isinstance(value, int)}

        def side(command: list[str]) -> Took:
            with tempfile.TemporaryDirectory(dir=folder) as new:
                work = facts | {"manifest": str(manifest), "out": f"{new}/runs"}
                took = turn(command, work, {"XDG_CACHE_HOME": f"{new}/cache"})
            assert took.said == {"steps": 1}
            return took

        commands = {"hark": hark("hark_startup"), "nemo": nemo("nemo_startup")}
        sides = {name: partial(side, command) for name, command in commands.items()}
        took = rounds(sides, args.repeats)
    row: dict[str, Any] = {}
    for name, mine in took.items():
        row[name] = {told: middle([getattr(one, key) for one in mine], 2) for told, key in MEASURES.items()}
    pairs = list(zip(took["nemo"], took["hark"], strict=True))
    for told, key in MEASURES.items():
        row[f"{told}_ratio"] = spread([getattr(theirs, key) / getattr(ours, key) for theirs, ours in pairs])
    print(json.dumps(row | facts))


if __name__ == "__main__":
    main()
