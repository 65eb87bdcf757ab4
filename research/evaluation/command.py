"""`hark probe`: what the layers of a checkpoint know, beside baselines. Light to import."""

import argparse
from pathlib import Path

from research.errors import HarkError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="PATH", help="a run folder, or any checkpoint that hark opens"
    )
    parser.add_argument("--probe", nargs="+", metavar="NAME", help="which probes (default: all)")
    parser.add_argument(
        "--train",
        type=Path,
        metavar="M",
        help="manifest with phones, of audio or of stored features (default: phones_train.jsonl beside data.train)",
    )
    parser.add_argument(
        "--test",
        type=Path,
        metavar="M",
        help="manifest with phones, of audio or of stored features (default: phones_test.jsonl beside data.train)",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="samples of training sentences, and random inits (default: 3)",
    )
    parser.add_argument(
        "--sentences", type=int, default=100, metavar="N", help="training sentences per seed (default: 100)"
    )
    parser.add_argument(
        "--dev",
        type=int,
        default=30,
        metavar="N",
        help="training sentences that choose the layer instead (default: 30)",
    )
    parser.add_argument(
        "--baseline", default="log_mel", metavar="NAME", help="frontend to compare with (default: log_mel)"
    )
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint of a run (default: the newest)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where results go (default: RUN/probes.jsonl, PATH.probes.jsonl)",
    )


def run(args: argparse.Namespace) -> None:
    """Probe a checkpoint, write the results, print the table."""
    from research.evaluation.probe import probe  # noqa: PLC0415
    from research.evaluation.report import show  # noqa: PLC0415

    for name, least in (("seeds", 2), ("sentences", 1), ("dev", 2)):
        if getattr(args, name) < least:
            raise HarkError(f"--{name} {getattr(args, name)}: must be at least {least}")
    show(probe(args))
