"""`hark report`: a sweep's findings as one page. Light to import."""

import argparse
from pathlib import Path

from research.errors import HarkError

EPILOG = """\
examples:
  hark report nest_recipe
  hark report nest_recipe --metric valid/loss --baseline quantizer.codes=64 --out build/report
  hark report nest_recipe --pack notebooks/data/nest_recipe.jsonl
  hark report notebooks/data/nest_recipe.jsonl"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source", metavar="SWEEP|FOLDER|FILE", help="a sweep by name, a folder of runs, or a packed sweep"
    )
    parser.add_argument(
        "--metric", default="", help="what is compared (default: probe/PROBE/pretrained, or else valid/loss)"
    )
    parser.add_argument(
        "--probe",
        default="phone_frames",
        metavar="NAME",
        help="whose layers are shown (default: phone_frames)",
    )
    parser.add_argument(
        "--baseline",
        nargs="+",
        default=[],
        metavar="KEY=LEVEL",
        help="levels that others are compared with (default: what is off, or the least)",
    )
    parser.add_argument(
        "--matters", type=float, metavar="X", help="smallest difference that would change what one does"
    )
    parser.add_argument(
        "--folder",
        default="runs",
        type=Path,
        metavar="DIR",
        help="where the sweep's runs are (default: runs)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where report.html, report.md and pictures/ go (default: beside sweep.json, or what was named)",
    )
    parser.add_argument(
        "--pack", type=Path, metavar="FILE", help="write the small results of all runs into one *.jsonl, too"
    )


def run(args: argparse.Namespace) -> int:
    """Write the report, and say where it is."""
    from research import registry  # noqa: PLC0415
    from research.analysis.packed import pack  # noqa: PLC0415
    from research.analysis.report import report  # noqa: PLC0415
    from research.analysis.report_case import case  # noqa: PLC0415

    baseline = dict(pair(word) for word in args.baseline)
    registry.load_plugins()
    told = {"metric": args.metric, "probe": args.probe, "baseline": baseline, "matters": args.matters}
    found = case(args.source, args.folder, **told)
    print(report(found, args.out))
    if args.pack:
        print(pack(args.source, args.pack, args.folder))
    return 0


def pair(word: str) -> tuple[str, str]:
    key, equals, level = word.partition("=")
    if not equals:
        raise HarkError(f"--baseline {word}: write KEY=LEVEL, as in quantizer.codes=64")
    return key, level
