"""`hark COMMAND`. Only what a command needs is imported, so that `hark --help` answers at once."""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from research.errors import HarkError


class Command(NamedTuple):
    """A command, by names of what is imported when it is typed."""

    text: str
    module: str  # light: has its words, `add_arguments` and EPILOG, and `run`
    suffix: str = ""  # of these functions, in a module of several commands: `add_list`, `run_list`
    recipes: bool = False  # it composes a config, so it takes --config-dir


COMMANDS = {
    "train": Command("pretrain, or resume, one run", "research.launch.train_command", recipes=True),
    "prepare": Command(
        "make manifests: real speech, noise, synthetic speech, your own", "research.data.corpora.command"
    ),
    "probe": Command("ask what the layers of a run know, beside baselines", "research.launch.probe_command"),
    "extract": Command("store what layers make of any audio", "research.launch.extract_command"),
    "classify": Command(
        "train a classifier on a checkpoint's layers, beside baselines",
        "research.classification.classify_command",
        recipes=True,
    ),
    "export": Command("write a checkpoint for other toolkits", "research.interop.export_command"),
    "bins": Command("find duration bins of any data", "research.launch.bins", recipes=True),
    "memory": Command(
        "find how many rows a batch of each bucket takes", "research.launch.memory", recipes=True
    ),
    "preflight": Command(
        "say what would go wrong with a job, before it is queued",
        "research.launch.preflight_command",
        recipes=True,
    ),
    "sweep": Command(
        "submit what is missing of many runs, and return",
        "research.launch.sweep.sweep_command",
        recipes=True,
    ),
    "status": Command("say where sweeps and runs stand", "research.launch.sweep.status_command", "status"),
    "logs": Command("print what the jobs of runs wrote", "research.launch.sweep.status_command", "logs"),
    "cancel": Command("end the jobs of runs", "research.launch.sweep.status_command", "cancel"),
    "retry": Command("submit again what failed or was lost", "research.launch.sweep.status_command", "retry"),
    "compare": Command(
        "set configurations side by side, over seeds: gains, intervals, costs",
        "research.analysis.compare_command",
    ),
    "pack": Command("keep the small results of many runs in one file", "research.analysis.pack_command"),
    "report": Command(
        "write what a sweep found as one page: verdicts, curves, costs, what is wrong, how to do it again",
        "research.analysis.report_command",
    ),
    "sync": Command("upload to W&B what is only on the disk", "research.launch.sync_command"),
    "list": Command("name the plugins and recipes", "research.listing.listing_command", "list", recipes=True),
    "show": Command(
        "print what overrides resolve to, with the docstrings",
        "research.listing.listing_command",
        "show",
        recipes=True,
    ),
    "docs": Command("write a page about every plugin, from its code", "research.listing.docs_command"),
    "new": Command("write a plugin to start from", "research.listing.new_command"),
    "check": Command(
        "hold one plugin to the rules that all plugins keep", "research.conformance.check_command"
    ),
}
CONFIG_DIR = "a folder of your own with experiment/, sweep/, cluster/ or classify/ in it ($HARK_CONFIG_DIR)"


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line; `run` of what is given does it. Exits where it cannot be read."""
    raw = argparse.RawDescriptionHelpFormatter
    width = max(map(len, COMMANDS))
    told = "\n".join(f"  {name:<{width}}  {command.text}" for name, command in COMMANDS.items())
    about = "Speech self-supervised learning as composable plugins."
    top = argparse.ArgumentParser("hark", description=about, epilog=f"commands:\n{told}", formatter_class=raw)
    top.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    name = top.parse_args(words[:1]).command
    return parse_command(name, COMMANDS[name], words[1:], raw)


def parse_command(name: str, command: Command, words: Sequence[str], raw: Any) -> argparse.Namespace:
    module = import_module(command.module)
    add = f"add_{command.suffix or 'arguments'}"
    run = f"run_{command.suffix}" if command.suffix else "run"
    epilog = getattr(module, f"{command.suffix.upper()}_EPILOG" if command.suffix else "EPILOG", "")
    sub = argparse.ArgumentParser(
        f"hark {name}", description=command.text, epilog=epilog, formatter_class=raw
    )
    getattr(module, add)(sub)
    sub.set_defaults(run=getattr(module, run))
    if not command.recipes:
        return sub.parse_args(words)
    sub.add_argument("--config-dir", metavar="DIR", help=CONFIG_DIR)
    return sub.parse_intermixed_args(words)  # options may stand between overrides


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command. Bad input is one line on stderr and exit code 2."""
    args = parse(sys.argv[1:] if argv is None else argv)
    if own := getattr(args, "config_dir", None):
        os.environ["HARK_CONFIG_DIR"] = str(Path(own).absolute())  # jobs inherit it
    sys.path.insert(0, str(Path.cwd()))  # so that $HARK_PLUGINS finds modules of the working folder
    if named := os.environ.get("HARK_PLUGINS"):
        files = [str(Path(word).absolute()) if word.endswith(".py") else word for word in named.split(",")]
        os.environ["HARK_PLUGINS"] = ",".join(files)  # what this starts may stand in another folder
    try:
        return args.run(args) or 0
    except HarkError as error:
        print(f"hark: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
