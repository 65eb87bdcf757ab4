"""`hark sync`: its words. Light to import."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

EPILOG = """\
Everything that W&B does not have yet is brought up: what a killed run has left behind in metrics.jsonl, what `hark probe`
has found since, then the folders of all starts without a network, in order, into one W&B run; for a sweep also a run
with one table of all its cells. What is up there is marked and passed over the next time.
For example
  hark sync                     all runs and sweeps in runs/
  hark sync nest_codes          a sweep: its cells, and their table
  hark sync runs/nest-ab12cd34ef --dry-run
Exit code: 0 all is up; 1 a run could not be uploaded (the others are); 2 no network, no login, a wrong name."""


def add_arguments(sub: ArgumentParser) -> None:
    sub.add_argument("names", nargs="*", metavar="SWEEP or RUN", help="which (default: all in --folder)")
    sub.add_argument("--folder", type=Path, default=Path("runs"), help="where run folders are (runs)")
    sub.add_argument("--dry-run", action="store_true", help="say what would be uploaded")


def run(args: Namespace) -> int:
    """Upload what is only on the disk. Exit code as in EPILOG."""
    from research.launch.sync import sync  # noqa: PLC0415

    return sync(args.names, args.folder, dry_run=args.dry_run)
