"""`hark check NAME`: hold one plugin to its rules, in-tree or out-of-tree."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from research import registry
from research.conformance.case import Case
from research.conformance.rules import Result, Rule, judge
from research.conformance.suite import rules_for
from research.errors import HarkError, nearest


def run(args: argparse.Namespace) -> int:
    """Print every rule of the plugins that `args.name` means, and what became of it. Exit code 1 if one is broken."""
    targets = in_file(Path(args.name)) if args.name.endswith(".py") else find(args.name)
    for told in registry.skipped():
        print(f"hark: skipped plugin {told}", file=sys.stderr)
    torch.set_num_threads(1)  # the models are tiny: threads would only wait for each other
    chosen = [(kind, name, rules_called(args.rule, kind, name)) for kind, name in targets]
    return max([report(*each) for each in chosen])


def in_file(path: Path) -> list[tuple[str, str]]:
    """Give kind and name of the plugins that a file registers; HarkError if it does not import, or has none."""
    path = path.absolute()
    inside = path.resolve().is_relative_to(registry.home())
    if not inside:
        os.environ["HARK_PLUGINS"] = ",".join(filter(None, (os.environ.get("HARK_PLUGINS"), str(path))))
    registry.load_plugins()
    parts = (
        path.resolve().relative_to(registry.home().parent).with_suffix("").parts if inside else (path.stem,)
    )
    module = ".".join(parts)
    if error := registry.broken.get(module):
        raise HarkError(
            f"{path.name}{registry.place(error)} does not import, so none of its plugins is there: "
            f"{type(error).__name__}: {error}"
        )
    pairs = [(kind, name) for kind in registry.KINDS for name in registry.names(kind)]
    found = [pair for pair in pairs if registry.find(*pair).__module__ == module]
    if not found:
        raise HarkError(
            f'{path}: registers no plugin; put @register("name") above a class, or see `hark new`'
        )
    return found


def find(text: str) -> list[tuple[str, str]]:
    """Give kind and name of the plugins that `name` or `kind=name` can mean; HarkError if there is none."""
    registry.load_plugins()
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


def rules_called(wanted: str | None, kind: str, name: str) -> Sequence[Rule]:
    """Give the rules of a plugin, or the one that is wanted; HarkError if it is none of them."""
    rules = {rule.__name__: rule for rule in rules_for(kind, name)}
    if wanted is None:
        return list(rules.values())
    if wanted not in rules:
        raise HarkError(
            f"--rule {wanted}: {kind}={name} has no such rule{nearest(wanted, rules)} (it has: {', '.join(rules)})"
        )
    return [rules[wanted]]


def report(kind: str, name: str, rules: Sequence[Rule]) -> int:
    """Check one plugin, a line per rule as soon as it is known, and more where one is broken."""
    case = Case(kind, name)
    print(f"{kind}={name}: {case.cls.__module__}.{case.cls.__qualname__}")
    began, broken = time.monotonic(), 0
    for rule in rules:
        result = judge(rule, case)
        print(f"  {'broken' if result.problem else 'ok':7}{result.demand}", flush=True)
        if result.problem:
            broken += 1
            print(explained(result, f"{kind}={name}"), flush=True)
    print(f"  {len(rules) - broken} of {len(rules)} rules kept, {time.monotonic() - began:.0f} s")
    return int(broken > 0)


def explained(result: Result, plugin: str) -> str:
    """Tell why a broken rule matters, what was seen and what to do, and how to look again."""
    lines = {
        "why": result.reason,
        "here": result.problem,
        "again": f"hark check {plugin} --rule {result.rule.__name__}",
    }
    return "\n".join(f"         {word + ':':7}{text}" for word, text in lines.items())
