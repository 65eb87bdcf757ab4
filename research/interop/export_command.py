"""`hark export`: a checkpoint for other toolkits. Light to import."""

import argparse
from pathlib import Path

FORMATS = ("state", "hf", "nemo", "fairseq2")
EPILOG = """\
  --to state     OUT.safetensors: all tensors, and in its header (and OUT.yaml) what they are weights of
  --to hf        a folder for transformers' AutoModel.from_pretrained: wav2vec2, wavlm, data2vec-audio and
                 wav2vec2-bert are its own classes, other encoders hark's (trust_remote_code=True, hark installed)
  --to nemo      OUT.nemo, of a NEST run with a FastConformer or a Conformer (quantizer.layer_norm=false)
  --to fairseq2  OUT.pt and its asset card OUT.yaml, of conv_wave with transformer
for example
  hark export runs/nest_demo-<signature> nest_demo --to hf
  hark export runs/nest_large-<signature> nest_large.nemo --to nemo --step 100000
  hark export wavlm-base/ wavlm-base.safetensors --to state"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", type=Path, metavar="CHECKPOINT", help="a run, or anything that init= takes"
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="what to write; it must not be there")
    parser.add_argument("--to", required=True, choices=FORMATS, help="the format")
    parser.add_argument("--step", type=int, metavar="N", help="of a run (default: the newest)")
    parser.add_argument("--report", action="store_true", help="print what became of every option and weight")


def run(args: argparse.Namespace) -> None:
    """Write one export, say where it is."""
    from research.interop.export import export  # noqa: PLC0415

    entries = export(args.checkpoint, args.to, args.out, args.step)
    for entry in entries if args.report else ():
        print(f"{entry.fate.value:8} {entry.key}: {entry.note}")
    print(args.out)
