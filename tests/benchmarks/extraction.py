"""Time the extraction of all layers of real speech in hark and in NeMo, turn by turn; print one JSON line a size.

    make bench-peers
    python -m tests.benchmarks.extraction
    python -m tests.benchmarks.extraction --sizes large --utterances 60 --repeats 3

Both open the same untrained `.nemo` archive and read the same files: utterances of a manifest drawn at random, whole
files in no order. hark is `hark extract` as it is typed, NeMo its script for features with its batch of 8, in eval
mode, which it forgets. `work_s` is from the open checkpoint to the last byte on the disk, headers and manifests
included; `command_s` is the whole process with its imports. A ratio is NeMo's time over hark's in one turn; told is
the median over turns with the least and the most.
"""

import argparse
import json
import random
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from research.compose import compose_config
from research.interop import nemo_export
from research.model import assemble
from tests.benchmarks.turns import Took, hark, middle, nemo, rounds, spread, turn

SIZES = {"tiny": (2, 64, 4), "small": (4, 256, 4), "large": (17, 512, 8)}  # layers, dim, heads


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "large"])
    parser.add_argument("--manifest", type=Path, default=Path("data/debspeech-mini/train.jsonl"))
    parser.add_argument("--utterances", type=int, default=300, help="so many; a fifth of it for large")
    parser.add_argument("--longest", type=float, default=30.0, help="s, of an utterance")
    parser.add_argument("--batch", type=int, default=8, help="rows, of NeMo")
    parser.add_argument("--workers", type=int, default=2, help="that read audio, of both")
    parser.add_argument("--threads", type=int, default=2, help="of both")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--dtype", choices=["fp32", "bf16"], default="fp32", help="computed in; stored is fp32"
    )
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def checkpoint(size: str, path: Path) -> Path:
    """An untrained NEST that both open."""
    layers, dim, heads = SIZES[size]
    dims = [f"encoder.depth={layers}", f"encoder.dim={dim}", f"encoder.heads={heads}"]
    cfg = compose_config(["encoder=fastconformer_medium", *dims]).config
    nemo_export.write(cfg, assemble(cfg).state_dict(), path)
    return path


def drawn(args: argparse.Namespace, count: int, path: Path) -> float:
    """Write the manifest of utterances that are whole files; give their seconds."""
    lines = [json.loads(line) for line in args.manifest.read_text().splitlines()]
    lines = [one for one in lines if one["duration"] <= args.longest and not one.get("offset")]
    random.Random(0).shuffle(lines)
    for line in lines[:count]:
        line["audio_filepath"] = str(args.manifest.absolute().parent / line["audio_filepath"])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines[:count]))
    return sum(line["duration"] for line in lines[:count])


def compare(args: argparse.Namespace, size: str, folder: Path) -> dict[str, Any]:
    count = args.utterances // (5 if size == "large" else 1)
    seconds = drawn(args, count, folder / f"{size}.jsonl")
    facts = {name: getattr(args, name) for name in ("batch", "workers", "threads", "device", "dtype")}
    paths = {"checkpoint": checkpoint(size, folder / f"{size}.nemo"), "manifest": folder / f"{size}.jsonl"}

    def side(command: list[str]) -> Took:
        with tempfile.TemporaryDirectory(dir=folder) as new:  # stores and caches begin empty
            where = {name: str(path) for name, path in paths.items()} | {"out": f"{new}/store"}
            took = turn(command, facts | where, {"XDG_CACHE_HOME": f"{new}/cache"})
        assert took.said["utterances"] == count
        return took

    sides = {"hark": hark("hark_extraction"), "nemo": nemo("nemo_extraction")}
    took = rounds({name: partial(side, command) for name, command in sides.items()}, args.repeats)
    row = {"size": size, "layers": SIZES[size][0], "dim": SIZES[size][1]} | facts
    row |= {"utterances": count, "audio_s": round(seconds), "repeats": args.repeats}
    return row | {name: told(mine, count, seconds) for name, mine in took.items()} | ratios(took)


def told(took: list[Took], count: int, seconds: float) -> dict[str, Any]:
    work = middle([one.said["work_s"] for one in took])
    return {
        "work_s": work,
        "utterances_per_s": round(count / work, 1),
        "audio_s_per_s": round(seconds / work, 1),
        "command_s": middle([one.wall for one in took]),
        "cpu_s": middle([one.cpu for one in took]),
        "peak_rss_mb": middle([one.rss for one in took], 0),
    }


def ratios(took: dict[str, list[Took]]) -> dict[str, Any]:
    pairs = list(zip(took["nemo"], took["hark"], strict=True))
    return {
        "ratio": spread([theirs.said["work_s"] / ours.said["work_s"] for theirs, ours in pairs]),
        "command_ratio": spread([theirs.wall / ours.wall for theirs, ours in pairs]),
        "rss_ratio": spread([theirs.rss / ours.rss for theirs, ours in pairs]),
    }


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            print(json.dumps(compare(args, size, Path(folder))), flush=True)


if __name__ == "__main__":
    main()
