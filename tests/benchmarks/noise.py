"""Time noisy training data in hark and in NeMo, turn by turn; print one JSON line for each loader and worker count.

    make bench-peers
    .venv/bin/hark prepare noise --out data/noise
    python -m tests.benchmarks.noise --noise data/noise/manifest.jsonl
    python -m tests.benchmarks.noise --noise data/noise/manifest.jsonl --seconds 20 --repeats 5

Both read the same utterances and the same noise corpus and give batches of augmented speech: NeMo's collate function
augments on the workers, hark's step on its device, which is counted here. hark reads with `data=manifest`, with the
same in its second epoch with `data.cache` (`cached`: speech and noise stay decoded), and with `data=lhotse`, without and
with `data.cache` (noise stays decoded); NeMo with its legacy loader, whose batches are `--rows` of any length, and with
its lhotse loader in batches of `--batch-seconds`, as hark. Rates are of `--seconds` after the batches that were read
ahead. A ratio is hark's rate over NeMo's in one turn: of `manifest` and `cached` over NeMo's legacy loader, of the other
two over its lhotse loader; told is the median over turns with the least and the most.
"""

import argparse
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks.turns import Took, hark, middle, nemo, rounds, spread, turn

PAIRS = {"manifest": "legacy", "cached": "legacy", "lhotse": "lhotse", "lhotse cached": "lhotse"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, default=Path("data/debspeech-mini/train.jsonl"))
    parser.add_argument("--noise", type=Path, default=Path("data/noise/manifest.jsonl"))
    parser.add_argument("--shortest", type=float, default=2.0, help="s, of an utterance")
    parser.add_argument("--longest", type=float, default=16.0)
    parser.add_argument("--rows", type=int, default=8, help="in a batch of NeMo's legacy loader")
    parser.add_argument("--batch-seconds", type=float, default=60.0, help="in a batch of the others")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of both")
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--seconds", type=float, default=5.0, help="of every measurement")
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def speech(args: argparse.Namespace, path: Path) -> int:
    """Write the manifest of the utterances that both read; give how many there are."""
    lines = [json.loads(line) for line in args.manifest.read_text().splitlines()]
    lines = [line for line in lines if args.shortest <= line["duration"] <= args.longest]
    for line in lines:
        line["audio_filepath"] = str(args.manifest.absolute().parent / line["audio_filepath"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return len(lines)


def of(took: list[Took], row: str) -> list[float]:
    return [one.said[row]["utterances_per_s"] for one in took]


def told(took: list[Took], row: str) -> dict[str, Any]:
    found = {key: middle([one.said[row][key] for one in took], 2) for key in took[0].said[row]}
    return {"loader": row.split(",", maxsplit=1)[0]} | found


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "speech.jsonl"
        facts: dict[str, Any] = {"utterances": speech(args, manifest)}
        facts |= {
            name: getattr(args, name) for name in ("rows", "batch_seconds", "threads", "seconds", "repeats")
        }
        work = facts | {
            "workers": args.workers,
            "manifest": str(manifest),
            "noise": str(args.noise.absolute()),
        }
        commands = {"hark": hark("hark_noise"), "nemo": nemo("nemo_noise")}
        sides = {name: partial(turn, command, work) for name, command in commands.items()}
        took = rounds(sides, args.repeats)
    for ours, theirs in PAIRS.items():
        for workers in args.workers:
            mine, peer = f"{ours}, {workers}", f"{theirs}, {workers}"
            pairs = zip(of(took["hark"], mine), of(took["nemo"], peer), strict=True)
            row = {"workers": workers, "hark": told(took["hark"], mine), "nemo": told(took["nemo"], peer)}
            print(json.dumps(row | {"ratio": spread([a / b for a, b in pairs], 1)} | facts), flush=True)


if __name__ == "__main__":
    main()
