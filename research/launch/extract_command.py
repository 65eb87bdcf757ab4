"""`hark extract`: features of any audio, by any checkpoint, as a store that training reads. Light to import."""

import argparse
from pathlib import Path

EPILOG = """\
for example
  hark extract runs/nest_demo-0123456789 data/debspeech-mini/train.jsonl --out features/train --layers 3,6
  hark extract model.nemo recordings/ --out features/mine --layers last --pool mean
  hark extract RUN train.jsonl --out labels/train --layers none --kmeans 500 --kmeans-layer 9
  hark extract frontend=mfcc_plain --stack 2 train.jsonl --out labels/train --layers none --kmeans 100 --kmeans-layer 0
  hark extract RUN valid.jsonl --out labels/valid --layers none --kmeans-from labels/train/kmeans.safetensors
  torchrun --standalone --nproc-per-node 8 -m research.cli extract RUN train.jsonl --out features/train
Typed again, the same command goes on where it stopped."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a run, a step of one, whatever hark opens, or frontend=NAME"
    )
    parser.add_argument(
        "input", type=Path, metavar="INPUT", help="a manifest, a folder of audio, or an audio file"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="the store is made in here")
    parser.add_argument(
        "--layers", default="all", help="all, last, none, or numbers: 0,3,12; 0 is what the first block reads"
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float16", "bfloat16"),
        help="stored (default: float32)",
    )
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "bf16"),
        help="computed in (default: fp32); bf16 is autocast",
    )
    parser.add_argument("--pool", choices=("mean",), help="one vector per layer and utterance")
    parser.add_argument(
        "--stack", type=int, metavar="N", help="frames of frontend=NAME side by side (default: 1)"
    )
    add_clusters(parser)
    add_reading(parser)


def add_clusters(parser: argparse.ArgumentParser) -> None:
    clusters = parser.add_mutually_exclusive_group()
    clusters.add_argument("--kmeans", type=int, metavar="K", help="learn K clusters, store every frame's")
    clusters.add_argument(
        "--kmeans-from", type=Path, metavar="FILE", help="clusters of an earlier extraction"
    )
    parser.add_argument(
        "--kmeans-layer", type=int, metavar="L", help="what is clustered (default: the last of --layers)"
    )


def add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--batch-seconds", type=float, default=100.0, metavar="S", help="audio per batch (default: 100)"
    )
    parser.add_argument(
        "--shard-mb", type=float, default=500.0, metavar="N", help="size of a shard (default: 500)"
    )
    parser.add_argument(
        "--max-bad",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="share of undecodable utterances at which it stops (default: 0.01)",
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="that read audio, per rank (default: 2)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 (default: auto)")


def run(args: argparse.Namespace) -> None:
    """Write the store, say what is in it and how fast that went."""
    from research.evaluation.extract import extract  # noqa: PLC0415
    from research.training.memory import keep_freed_memory  # noqa: PLC0415

    keep_freed_memory()
    extract(args)
