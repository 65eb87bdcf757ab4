"""`hark COMMAND`. Commands import what they need when they run, so that `hark --help` answers at once."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from research.errors import HarkError

TRAIN = """\
overrides read key=value, for example
  hark train experiment=nest_demo data.train=[data/debspeech-mini/train.jsonl]
  hark train experiment=nest_large encoder.dropout=0.2 run.seed=1 train.precision=bf16
The same configuration is the same run: typed again, it resumes."""

CLASSIFY = """\
overrides read key=value, for example
  hark classify upstream=runs/nest_demo-<signature> label=lang \\
    data.train=[train.jsonl] data.valid=[valid.jsonl] data.test=[test.jsonl] head=attentive seeds=5
  ... tune.start=200 tune.lr_scale=0.1     the encoder is trained too, from step 200 on
  ... lr_grid=[1e-4,1e-3,1e-2]             valid chooses; test is read once
The same configuration is the same experiment: typed again, it goes on, or prints what it found."""

COMPOSE = (
    "train",
    "classify",
    "bins",
    "memory",
    "preflight",
    "sweep",
    "list",
    "show",
)  # commands that read recipes
CONFIG_DIR = "a folder of your own with experiment/, sweep/, cluster/ or classify/ in it ($HARK_CONFIG_DIR)"


def train(args: argparse.Namespace) -> int:
    from research.compose import compose_config
    from research.training.loop import train as run

    return run(compose_config(args.overrides))


def show(args: argparse.Namespace) -> int:
    from research.listing import show as run

    return run(args.overrides)


def list_plugins(args: argparse.Namespace) -> int:
    from research.listing import list_plugins as run

    return run(args.kind)


def check(args: argparse.Namespace) -> int:
    from research.conformance.command import run

    return run(args)


def prepare(args: argparse.Namespace) -> int:
    from research.data.corpora.command import run

    run(args)
    return 0


def probe(args: argparse.Namespace) -> int:
    from research.evaluation.command import run
    from research.training.follower import catch_up

    run(args)
    if (args.checkpoint / "metrics.jsonl").exists():
        catch_up(args.checkpoint, print)
    return 0


def extract(args: argparse.Namespace) -> int:
    from research.evaluation.extract_command import run

    run(args)
    return 0


def classify(args: argparse.Namespace) -> int:
    from research.classification.command import run

    return run(args.overrides)


def export(args: argparse.Namespace) -> int:
    from research.interop.export_command import run

    run(args)
    return 0


def bins(args: argparse.Namespace) -> int:
    from research.launch.bins import run

    return run(args)


def memory(args: argparse.Namespace) -> int:
    from research.launch.memory import run

    return run(args)


def preflight(args: argparse.Namespace) -> int:
    from research.launch.preflight_command import run

    return run(args)


def sweep(args: argparse.Namespace) -> int:
    from research.launch.sweep.sweep_command import run

    return run(args)


def status(args: argparse.Namespace) -> int:
    from research.launch.sweep.status import run

    return run(args)


def logs(args: argparse.Namespace) -> int:
    from research.launch.sweep.logs import run

    return run(args)


def cancel(args: argparse.Namespace) -> int:
    from research.launch.sweep.cancel import run

    return run(args)


def retry(args: argparse.Namespace) -> int:
    from research.launch.sweep.retry import run

    return run(args)


def sync(args: argparse.Namespace) -> int:
    from research.launch.sync_command import run

    return run(args)


def parser() -> argparse.ArgumentParser:
    from research.data.corpora.command import add_arguments as prepare_arguments
    from research.evaluation.command import add_arguments as probe_arguments
    from research.evaluation.extract_command import EPILOG as EXTRACT
    from research.evaluation.extract_command import add_arguments as extract_arguments
    from research.interop.export_command import EPILOG as EXPORT
    from research.interop.export_command import add_arguments as export_arguments
    from research.launch.bins import EPILOG as BINS
    from research.launch.bins import add_arguments as bins_arguments
    from research.launch.memory import EPILOG as MEMORY
    from research.launch.memory import add_arguments as memory_arguments
    from research.launch.preflight_command import EPILOG as PREFLIGHT
    from research.launch.preflight_command import add_arguments as preflight_arguments
    from research.launch.sweep import status_command as stand
    from research.launch.sweep.sweep_command import EPILOG as SWEEP
    from research.launch.sweep.sweep_command import add_arguments as sweep_arguments
    from research.launch.sync_command import EPILOG as SYNC
    from research.launch.sync_command import add_arguments as sync_arguments

    top = argparse.ArgumentParser(
        prog="hark", description="Speech self-supervised learning as composable plugins."
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str, epilog: str = "") -> argparse.ArgumentParser:
        raw = argparse.RawDescriptionHelpFormatter
        sub = commands.add_parser(name, help=text, description=text, epilog=epilog, formatter_class=raw)
        sub.set_defaults(run=run)
        return sub

    sub = command("train", train, "pretrain, or resume, one run", TRAIN)
    sub.add_argument("overrides", nargs="*", metavar="key=value")
    prepare_arguments(
        command("prepare", prepare, "make manifests: real speech, noise, synthetic speech, your own")
    )
    probe_arguments(command("probe", probe, "ask what the layers of a run know, beside baselines"))
    extract_arguments(command("extract", extract, "store what layers make of any audio", EXTRACT))
    sub = command(
        "classify", classify, "train a classifier on a checkpoint's layers, beside baselines", CLASSIFY
    )
    sub.add_argument("overrides", nargs="*", metavar="key=value")
    export_arguments(command("export", export, "write a checkpoint for other toolkits", EXPORT))
    bins_arguments(command("bins", bins, "find duration bins of any data", BINS))
    memory_arguments(command("memory", memory, "find how many rows a batch of each bucket takes", MEMORY))
    preflight_arguments(
        command("preflight", preflight, "say what would go wrong with a job, before it is queued", PREFLIGHT)
    )
    sweep_arguments(command("sweep", sweep, "submit what is missing of many runs, and return", SWEEP))
    stand.add_status(command("status", status, "say where sweeps and runs stand", stand.STATUS))
    stand.add_logs(command("logs", logs, "print what the jobs of runs wrote", stand.NAMES))
    stand.add_cancel(command("cancel", cancel, "end the jobs of runs", stand.NAMES))
    stand.add_retry(command("retry", retry, "submit again what failed or was lost", stand.NAMES))
    sync_arguments(command("sync", sync, "upload to W&B what is only on the disk", SYNC))
    sub = command("list", list_plugins, "name the plugins and recipes")
    sub.add_argument(
        "kind", nargs="?", help="objective, encoder, frontend, quantizer, ..., experiment, sweep"
    )
    sub = command("show", show, "print what overrides resolve to, with the docstrings", TRAIN)
    sub.add_argument("overrides", nargs="*", metavar="key=value")
    sub = command("check", check, "hold one plugin to the rules that all plugins keep")
    sub.add_argument("name", help="a plugin's name, or kind=name")
    for name in COMPOSE:
        commands.choices[name].add_argument("--config-dir", metavar="DIR", help=CONFIG_DIR)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Bad input is one line on stderr and exit code 2."""
    args = parser().parse_args(argv)
    if own := getattr(args, "config_dir", None):
        os.environ["HARK_CONFIG_DIR"] = str(Path(own).absolute())  # jobs inherit it
    sys.path.insert(0, str(Path.cwd()))  # so that $HARK_PLUGINS finds modules of the working folder
    try:
        code: int = args.run(args)
    except HarkError as error:
        print(f"hark: {error}", file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
