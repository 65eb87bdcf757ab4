"""`hark memory`: how many rows a batch of each bucket takes. Light to import."""

import argparse
import re
from pathlib import Path

from research.errors import HarkError

EPILOG = """\
overrides are those of `hark train`; buckets are those of data.bins or data.bounds, else data.buckets of data.train:
  hark memory experiment=nest_demo data.train=[train.jsonl] --limit 4GB
  hark memory experiment=w2v_bert_xl data.bins=bins.yaml train.precision=bf16 --out h100.yaml
  hark memory experiment=w2v_bert_xl data.bins=bins.yaml train.precision=bf16 --predict h100 --out h100.yaml
  torchrun --standalone --nproc-per-node 8 -m research.cli memory experiment=w2v_bert_xl data.bins=bins.yaml
then train with data.bins=h100.yaml. Typed again after Ctrl-C, the same command goes on."""

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY = {"k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument(
        "--limit", metavar="SIZE", help="memory of a rank, such as 4GB (default: --fraction of it)"
    )
    parser.add_argument(
        "--fraction",
        type=float,
        default=0.9,
        metavar="SHARE",
        help="of the GPU's memory, or of the host's that is free, to use without --limit (default: 0.9)",
    )
    parser.add_argument(
        "--predict", metavar="DEVICE", help="do no steps: predict what they take on this device, such as h100"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("memory.yaml"), metavar="FILE", help="default: memory.yaml"
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="steps of which the median counts (default: 3)"
    )
    parser.add_argument("--max-rows", type=int, default=4096, metavar="N", help="per batch (default: 4096)")


def run(args: argparse.Namespace) -> int:
    """Search, print the table, write the file."""
    args.limit = None if args.limit is None else read_bytes(args.limit)
    if not 0 < args.fraction <= 1:
        raise HarkError(f"--fraction {args.fraction:g}: a share of the memory, above 0 and at most 1")
    for name in ("repeats", "max_rows"):
        if getattr(args, name) < 1:
            raise HarkError(f"--{name.replace('_', '-')} {getattr(args, name)}: must be at least 1")
    from research.launch.sizes import find_sizes  # noqa: PLC0415

    return find_sizes(args)


def read_bytes(text: str) -> int:
    """Bytes of `4GB`, `4e9`, `512MiB`, ...; HarkError when it is no size."""
    found = re.fullmatch(r"([\d.]+(?:e\d+)?)\s*([kmgt]?)(i?)b?", text.strip().lower())
    units = BINARY if found and found[3] else UNITS
    try:
        assert found
        size = int(float(found[1]) * units[found[2]])
    except (AssertionError, ValueError, KeyError):
        size = 0
    if size < 1:
        raise HarkError(f"--limit {text}: is no size; type for example 4GB, 512MB or 4GiB")
    return size
