"""`hark compare`: configurations side by side, over seeds. Light to import."""

import argparse
from pathlib import Path

EPILOG = "examples:\n  hark compare methods\n  hark compare runs --probe pnmi --markdown"
HEADINGS = (
    "run",
    "seeds",
    "of its own",
    "trivial",
    "probe",
    "random-init",
    "gain",
    "",
    "log-mel",
    "audio-h",
    "min",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="SWEEP|FOLDER", help="a sweep by name, or a folder of runs")
    parser.add_argument("--probe", default="phone_frames", metavar="NAME", help="default: phone_frames")
    parser.add_argument(
        "--folder", default="runs", type=Path, metavar="DIR", help="where the sweep's runs are"
    )
    parser.add_argument("--markdown", action="store_true", help="print it for a README")


def run(args: argparse.Namespace) -> int:
    """Print a table of configurations, the best gain over a random encoder first."""
    from rich.box import MARKDOWN, SIMPLE  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from research import registry  # noqa: PLC0415
    from research.analysis import compare  # noqa: PLC0415

    registry.load_plugins()
    folder, names = compare.found_in(args.what, args.folder)
    found = compare.scores(folder, args.probe, names)
    grid = Table(*HEADINGS, box=MARKDOWN if args.markdown else SIMPLE)
    for _, line in compare.compare(found).iterrows():
        grid.add_row(*compare.cells(line))
    console = Console(width=200 if args.markdown else None)
    console.print(grid)
    console.print(compare.COVERS, soft_wrap=True)
    return 0
