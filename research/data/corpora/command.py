"""`hark prepare`: its words on the command line, and what it says at the end. Light to import."""

import argparse
import json
import math
import os
from collections.abc import Callable
from pathlib import Path

from research.errors import HarkError

DATA = Path("data")
SETS = {"shar": "lhotse's Shar, in DIR/shar", "tar": "tars and manifests in NeMo's layout"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    corpora = parser.add_subparsers(required=True, metavar="CORPUS")

    def corpus(name: str, make: Callable[[argparse.Namespace], Path], text: str) -> argparse.ArgumentParser:
        sub = corpora.add_parser(name, help=text, description=text)
        sub.add_argument("--out", type=Path, metavar="DIR", help="where to; by default data/<name>")
        sub.set_defaults(make=make)
        return sub

    speech = corpus("debspeech", debspeech, "real speech out of Debian packages")
    sizes = "mini (234 MB, 3.7 h; the default), core (378 MB, 7.7 h), full (633 MB, 12 h)"
    speech.add_argument("--preset", default="mini", help=sizes)
    sounds = corpus("noise", noise, "real noise out of Debian packages (125 MB, 43 min)")
    for sub in (speech, sounds):
        sub.add_argument(
            "--deb-dir", type=Path, metavar="DIR", help="take the .deb files from here, without apt"
        )
    sub = corpus("tasks", tasks, "voice id and unseen-voice language id on a corpus that is prepared already")
    sub.add_argument("path", type=Path, metavar="CORPUS", help="its folder, e.g. data/debspeech-core")
    sub = corpus("synth", synth, "synthetic speech, without a network; needs pip install 'hark-ssl[synth]'")
    sub.add_argument(
        "--utterances", type=int, default=2400, metavar="N", help="how many (default: %(default)s)"
    )
    sub = corpus("dir", directory, "a folder of audio files, indexed where they lie")
    sub.add_argument("path", type=Path, metavar="PATH")
    sub.add_argument(
        "--glob", default="*.wav", help="which files, in all folders below (default: %(default)s)"
    )
    sub = corpus(
        "lhotse", lhotse, "a corpus that lhotse has a recipe for: librispeech, musan, commonvoice, ..."
    )
    sub.add_argument("recipe", metavar="RECIPE")
    sub.add_argument(
        "options", nargs="*", metavar="key=value", help="of the recipe, e.g. dataset_parts=dev-clean"
    )
    sub.add_argument(
        "--corpus", type=Path, metavar="DIR", help="prepare what lies here instead of downloading"
    )
    for name, text in SETS.items():
        add_sharding(corpus(name, sharded, f"any manifests as shards: {text}"), name)


def add_sharding(sub: argparse.ArgumentParser, layout: str) -> None:
    sub.set_defaults(layout=layout)
    sub.add_argument("manifests", type=Path, nargs="+", metavar="MANIFEST", help="JSONL, of audio")
    count = sub.add_mutually_exclusive_group()
    count.add_argument("--shards", type=int, metavar="N", help="how many")
    size = "of a shard, when --shards is not given (default: %(default)s)"
    count.add_argument("--shard-size", type=int, default=1000, metavar="UTTERANCES", help=size)
    codec = "flac or wav (16 bits: without loss where the source has no more), or opus (lossy) (default: %(default)s)"
    sub.add_argument("--codec", default="flac", help=codec)
    sub.add_argument("--sample-rate", type=int, metavar="HZ", help="resample to this; by default not at all")
    sub.add_argument("--workers", type=int, metavar="N", help="processes; by default one per core")
    order = "of the order of utterances; -1: that of the manifests (default: %(default)s)"
    sub.add_argument("--seed", type=int, default=0, metavar="N", help=order)
    sub.add_argument("--min-seconds", type=float, default=0.0, metavar="S", help="leave shorter ones out")
    sub.add_argument("--max-seconds", type=float, default=math.inf, metavar="S", help="leave longer ones out")


def run(args: argparse.Namespace) -> None:
    """Prepare a corpus and say what it holds; HarkError when it cannot be had or made."""
    print(report(args.make(args)))


def debspeech(args: argparse.Namespace) -> Path:
    from research.data.corpora.debspeech import prepare  # noqa: PLC0415  light to import

    return prepare(out_of(args, f"debspeech-{args.preset}"), args.preset, args.deb_dir)


def noise(args: argparse.Namespace) -> Path:
    from research.data.corpora.noise import prepare  # noqa: PLC0415  light to import

    return prepare(out_of(args, "noise"), args.deb_dir)


def tasks(args: argparse.Namespace) -> Path:
    from research.data.corpora.tasks import prepare  # noqa: PLC0415  light to import

    if args.out is not None:
        raise HarkError("--out: the tasks lie beside the manifests of their corpus")
    return prepare(args.path)


def synth(args: argparse.Namespace) -> Path:
    from research.data.corpora.synth import prepare  # noqa: PLC0415  light to import

    return prepare(out_of(args, "synth"), args.utterances)


def directory(args: argparse.Namespace) -> Path:
    from research.data.corpora.directory import prepare  # noqa: PLC0415  light to import

    return prepare(args.path, args.glob, out_of(args, args.path.resolve().name))


def lhotse(args: argparse.Namespace) -> Path:
    from research.data.corpora.recipes import prepare  # noqa: PLC0415  light to import

    words = [word.partition("=") for word in args.options]
    for key, equals, _ in words:
        if not equals:
            raise HarkError(f"{key}: an option of a recipe reads key=value")
    options = {key: value for key, _, value in words}
    return prepare(args.recipe, options, args.corpus, out_of(args, args.recipe))


def sharded(args: argparse.Namespace) -> Path:
    from research.data.corpora.shards import Settings, prepare  # noqa: PLC0415  light to import

    settings = Settings(**{name: getattr(args, name) for name in Settings.__dataclass_fields__})
    first = args.manifests[0].resolve()
    out = out_of(args, f"{first.parent.name}-{first.stem}-{args.layout}")
    workers = len(os.sched_getaffinity(0)) if args.workers is None else args.workers
    return prepare(args.layout, args.manifests, out, settings, workers)


def out_of(args: argparse.Namespace, name: str) -> Path:
    return args.out or DATA / name


def report(out: Path) -> str:
    """Say what a prepared folder holds."""
    summary = json.loads((out / "summary.json").read_text())
    lines = [f"{out}: {summary['utterances']} utterances, {summary['minutes']:.1f} min"]
    for name, part in summary["splits"].items():
        lines.append(f"  {name}.jsonl: {part['utterances']} utterances, {part['minutes']:.1f} min")
    dropped = {reason: count for reason, count in summary["dropped"].items() if count}
    if dropped:
        lines.append("  left out: " + ", ".join(f"{count} {reason}" for reason, count in dropped.items()))
    lines += [f"  {note}" for note in summary["notes"]]
    return "\n".join([*lines, f"  licences and credits: {out / 'LICENSES.md'}"])
