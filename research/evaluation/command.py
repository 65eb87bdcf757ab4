"""`hark probe`: what the layers of a checkpoint know, beside baselines. Light to import."""

import argparse
from pathlib import Path

from research.errors import HarkError

BASELINES = ("log_mel", "mfcc")
EPILOG = """
Mini probes: a few utterances of small corpora, and minutes of a CPU. Every probe has a task, and asks
TASK_train.jsonl, TASK_valid.jsonl (else some of train) and TASK_test.jsonl of a folder; see `hark prepare tasks`.
Dev utterances choose the layer, the learning rate and other settings; the test is looked at once per command.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="PATH", help="a run folder, or any checkpoint that hark opens"
    )
    parser.add_argument(
        "--probe", nargs="+", metavar="NAME", help="which probes (default: all whose manifests are there)"
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="where manifests of tasks are (default: beside data.train)"
    )
    for split in ("train", "valid", "test"):
        parser.add_argument(
            f"--{split}",
            type=Path,
            metavar="M",
            help=f"manifest of audio or of stored features, of one task (default: TASK_{split}.jsonl in DIR)",
        )
    parser.add_argument(
        "--seeds",
        type=int,
        default=3,
        metavar="N",
        help="samples of training utterances, and random inits (default: 3)",
    )
    parser.add_argument(
        "--sentences", type=int, default=100, metavar="N", help="training utterances per seed (default: 100)"
    )
    parser.add_argument(
        "--dev",
        type=int,
        metavar="N",
        help="utterances that choose layer and settings (default: 30 of train, or at most 200 of valid)",
    )
    parser.add_argument(
        "--baseline",
        nargs="+",
        metavar="NAME",
        help=f"frontends to compare with, beside random-init encoders (default: {' '.join(BASELINES)}, and what a probe names)",
    )
    parser.add_argument("--step", type=int, metavar="N", help="checkpoint of a run (default: the newest)")
    parser.add_argument(
        "--no-cache",
        action="store_true",
        help="compute all features anew (they are kept in ~/.cache/hark/features)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="where results go (default: RUN/probes.jsonl, PATH.probes.jsonl)",
    )


def run(args: argparse.Namespace) -> None:
    """Probe a checkpoint, write the results, print the tables."""
    from research.evaluation.probe import probe  # noqa: PLC0415
    from research.evaluation.report import show  # noqa: PLC0415

    for name, least in (("seeds", 2), ("sentences", 1), ("dev", 2)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise HarkError(f"--{name} {value}: must be at least {least}")
    show(*probe(args))
