"""`hark bins`: duration bins of any data. Light to import."""

import argparse
from pathlib import Path

from research.errors import HarkError

STRATEGIES = {"padding": "least padding", "equal": "equal audio in each"}
EPILOG = """\
an input is what data.train takes: manifests, or sources of data=lhotse; or it is a run, in place of which its overrides
can be typed. Of a mixture every source counts by its share.
  hark bins train.jsonl more.jsonl
  hark bins shar/ mixture.yaml --buckets 20 --strategy equal
  hark bins runs/nest_demo-<signature> --out nest_demo.yaml
  hark bins data=lhotse data.train=[shar/] data.truncate_seconds=20 --batch-seconds 240
then train with data.bins=bins.yaml. With --batch-seconds the file also fixes how many rows a batch of each bucket has;
without, data.batch_seconds says so. `hark memory data.bins=bins.yaml` finds how many fit."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="path, or key=value")
    parser.add_argument("--buckets", type=int, metavar="N", help="at most (default: data.buckets, 30)")
    told = ", ".join(f"{name}: {what}" for name, what in STRATEGIES.items())
    parser.add_argument(
        "--strategy", choices=STRATEGIES, default="padding", help=f"{told} (default: padding)"
    )
    parser.add_argument(
        "--batch-seconds",
        type=float,
        metavar="S",
        help="audio per batch, padding included, to fix in the file",
    )
    parser.add_argument(
        "--min-seconds",
        type=float,
        metavar="S",
        help="leave shorter utterances out (default: data.min_seconds)",
    )
    parser.add_argument(
        "--max-seconds", type=float, metavar="S", help="leave longer ones out (default: data.max_seconds)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("bins.yaml"),
        metavar="FILE",
        help="with a picture beside it (default: bins.yaml)",
    )


def run(args: argparse.Namespace) -> int:
    """Find bins, print what they cost, write them."""
    if args.buckets is not None and args.buckets < 1:
        raise HarkError(f"--buckets {args.buckets}: must be at least 1")
    if args.batch_seconds is not None and not args.batch_seconds > 0:
        raise HarkError(f"--batch-seconds {args.batch_seconds:g}: must be above 0")
    from research.launch.bins_report import make_bins  # noqa: PLC0415

    return make_bins(args)
