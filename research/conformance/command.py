"""`hark check NAME`: hold one plugin to its rules, in-tree or out-of-tree."""

import argparse
import sys
import time

import torch

from research import registry
from research.conformance.case import Case
from research.conformance.suite import hold, rules_for
from research.errors import HarkError, nearest


def run(args: argparse.Namespace) -> int:
    """Print every rule of the plugins called `args.name` and what became of it. Exit code 1 if one is broken."""
    registry.load_plugins()
    for module, error in registry.broken.items():
        print(f"hark: skipped plugin {module}: {type(error).__name__}: {error}", file=sys.stderr)
    torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other
    return max([report(kind, name) for kind, name in find(args.name)])


def find(text: str) -> list[tuple[str, str]]:
    """Give kind and name of the plugins that `name` or `kind=name` can mean; HarkError if there is none."""
    kind, _, name = text.rpartition("=")
    if kind:
        if kind not in registry.KINDS:
            known = ", ".join(registry.KINDS)
            raise HarkError(
                f"{text}: no kind is called '{kind}'{nearest(kind, registry.KINDS)} (there are: {known})"
            )
        registry.find(kind, name)
        return [(kind, name)]
    known_names = {each: registry.names(each) for each in registry.KINDS}
    if found := [(each, name) for each, there in known_names.items() if name in there]:
        return found
    everything = sorted({other for there in known_names.values() for other in there})
    raise HarkError(f"no plugin is called '{name}'{nearest(name, everything)} (`hark list` names all)")


def report(kind: str, name: str) -> int:
    """Check one plugin, a line per rule as soon as it is known."""
    cls = Case(kind, name).cls
    print(f"{kind}={name}: {cls.__module__}.{cls.__qualname__}")
    began, broken = time.monotonic(), 0
    for result in hold(kind, name):
        print(f"  {'broken' if result.problem else 'ok':7}{result.demand}", flush=True)
        if result.problem:
            broken += 1
            print(f"         {result.problem}", flush=True)
    rules = len(rules_for(kind, name))
    print(f"  {rules - broken} of {rules} rules kept, {time.monotonic() - began:.0f} s")
    return int(broken > 0)
