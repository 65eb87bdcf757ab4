"""`make demo`: real speech, a NEST model pretrained on it, what its layers know, one picture. Run again, it goes on."""

import shutil
import sys
from argparse import ArgumentParser
from pathlib import Path

from research import runs
from research.analysis.figure import overview
from research.compose import compose_config
from research.data.corpora import debspeech, synth
from research.errors import HarkError
from research.evaluation import command
from research.training.loop import train


def speech() -> Path:
    """Prepare real speech from Debian's packages, or synthetic speech where there is no apt to bring them."""
    if shutil.which("apt-get"):
        return debspeech.prepare(Path("data/debspeech-mini"), "mini")
    print("no apt-get here: the demo uses SYNTHETIC speech; its scores say nothing about real speech")
    return synth.prepare(Path("data/synth"), utterances=2400)


def demo() -> int:
    corpus = speech()
    composed = compose_config(
        [
            "experiment=nest_demo",
            f"data.train=[{corpus / 'train.jsonl'}]",
            f"data.valid=[{corpus / 'valid.jsonl'}]",
            "run.folder=runs",
        ]
    )
    code = train(composed)
    if code:
        return code
    run = runs.folder(composed.config)
    parser = ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args([str(run), "--probe", "phone_frames", "pnmi", "--seeds", "5"]))
    print(f"picture: {overview(run, run / 'overview.png')}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(demo())
    except HarkError as error:
        sys.exit(f"hark: {error}")
