"""Checks of what a job finds around it."""

import json
import netrc
import os
import platform
import sys
from collections.abc import Mapping
from functools import cache
from subprocess import DEVNULL, PIPE, Popen
from typing import Any
from urllib.parse import urlsplit

import torch

from research import registry
from research.launch.checks.job import Job, Said, ok, refuse, warn

ANSWER = """
import json, platform, research, plugins
from research import registry
registry.load_plugins()
import torch
broken = {module: f"{type(error).__name__}: {error}" for module, error in registry.broken.items()}
print(json.dumps({"python": platform.python_version(), "torch": torch.__version__, "broken": broken}))
"""
DECIDING = ("HARK_", "PYTHON", "LD_")  # beginnings of the variables that say what is imported
PATIENCE = 300  # s: a busy file system is slow to import from


@cache
def begun(variables: frozenset[tuple[str, str]]) -> Popen[str]:
    """Import all that a job imports, as it will: in another process and another folder. Once for one environment."""
    command, env = [sys.executable, "-c", ANSWER], os.environ | dict(variables)
    return Popen(command, cwd="/", env=env, text=True, stdin=DEVNULL, stdout=PIPE, stderr=PIPE)  # noqa: S603  our own lines


@cache
def answer(process: Popen[str]) -> tuple[str, str]:
    """What it printed, and where it failed the last line of why."""
    out, error = process.communicate(timeout=PATIENCE)
    why = (error.strip().splitlines() or ["no reason"])[-1]
    return out, why if process.returncode else ""


def ask(variables: Mapping[str, str] | None = None) -> Popen[str]:
    """Start a process that imports as a job does that gets these variables, too."""
    given = os.environ | (variables or {})
    return begun(frozenset(item for item in given.items() if item[0].startswith(DECIDING)))


def imports(_job: Job) -> Said:
    """Whether the modules of $HARK_PLUGINS and of hark import, and from the same Python and torch."""
    return told(ask())


def told(process: Popen[str]) -> Said:
    out, why = answer(process)
    if why:
        return refuse(
            f"hark does not import outside this folder ({why}); install it, or put its folder into PYTHONPATH"
        )
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    named = [module for module in registry.named() if module in found["broken"]]
    if named:
        return refuse(
            f"HARK_PLUGINS names {named[0]}, which a job cannot import ({found['broken'][named[0]]}); "
            "install it, or put its folder into PYTHONPATH"
        )
    here = {"python": platform.python_version(), "torch": torch.__version__}
    for name, version in here.items():
        if found[name] != version:
            return refuse(f"a job would run {name} {found[name]}, here it is {version}")
    return ok(", ".join(f"{name} {version}" for name, version in here.items()))


def wandb(job: Job) -> Said | None:
    """Whether W&B knows who is logging."""
    if job.cfg.log.wandb != "online" or logged_in():
        return None
    return warn(
        f"log.wandb=online, but there is neither WANDB_API_KEY nor a login for {wandb_server()}: type "
        "log.wandb=offline and `hark sync` later"
    )


def wandb_server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def logged_in() -> bool:
    """Whether there is a key for W&B's server."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(urlsplit(wandb_server()).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
