"""`hark pack`: the small results of many runs as one file. Light to import."""

import argparse
from pathlib import Path

EPILOG = "examples:\n  hark pack nest_codes --out results/nest_codes.jsonl\n  hark pack runs --out runs.jsonl"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="SWEEP|FOLDER", help="a sweep by name, or a folder of runs")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="a .jsonl file to write")
    parser.add_argument(
        "--folder", default="runs", type=Path, metavar="DIR", help="where the sweep's runs are"
    )


def run(args: argparse.Namespace) -> int:
    """Write the file, and say how much it holds."""
    from research.analysis.packed import pack  # noqa: PLC0415

    out = pack(args.what, args.out, args.folder)
    size = out.stat().st_size / 1e6
    print(
        f"{out}: {len(out.read_bytes().splitlines()) - 1} runs, {size:.1f} MB; read it as their folder is read"
    )
    return 0
