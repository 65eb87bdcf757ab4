"""`hark docs`: a page of Markdown for every plugin, made of its code."""

import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import yaml
from rich.progress import track

from research import contracts, downstream, registry
from research.compose import RECIPES, recipes
from research.conformance.suite import rules_for
from research.contracts import Plugin
from research.files import write
from research.listing.fields import Field, promises, table
from research.listing.table import headline, summary, warn_broken

ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")
LETTERS = "B batch, N samples, S frontend frames, T encoder frames, M masked frames, F frontend dim, D encoder dim, "
LETTERS += "G codebooks, V codes per book."


def docs(name: str | None, folder: Path) -> int:
    """Write all pages and an index into a folder; or print those of one name, `name` or `kind=name`."""
    registry.load_plugins()
    warn_broken()
    if name is not None:
        print("\n".join(page(cls) for cls in wanted(name)))
        return 0
    for cls in track(classes(), "pages", transient=True):
        file = folder / path(cls)
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, page(cls))
    write(folder / "README.md", index())
    print(f"{folder / 'README.md'}: {len(classes())} plugins")
    return 0


def classes() -> list[type[Plugin]]:
    """Every registered class once, by kind."""
    pairs = ((kind, name) for kind in registry.KINDS for name in registry.names(kind))
    return list(dict.fromkeys(registry.find(*pair) for pair in pairs))


def wanted(text: str) -> list[type[Plugin]]:
    """Classes that `name` or `kind=name` can mean; HarkError where there is none."""
    kind, _, name = text.rpartition("=")
    kinds = [each for each in registry.KINDS if name in registry.names(each) and kind in ("", each)]
    return [registry.find(each, name) for each in kinds] or [registry.find(kind or registry.KINDS[0], name)]


def path(cls: type[Plugin]) -> str:
    return f"{cls.kind}/{registry.names_of(cls)[0]}.md"


def index() -> str:
    """Links to all pages, one line for every name."""
    lines = ["# Plugins", "", "Written by `hark docs`."]
    for kind in registry.KINDS:
        lines += ["", f"## {kind}", "", "| name | what it is |", "|---|---|"]
        for name in registry.names(kind):
            lines.append(
                f"| [`{name}`]({path(registry.find(kind, name))}#{name}) | {cell(summary(kind, name))} |"
            )
    return "\n".join(lines) + "\n"


def page(cls: type[Plugin]) -> str:
    """All that the code says about a class and its presets."""
    kind, names = cls.kind, registry.names_of(cls)
    said = ARXIV.sub(r"[arXiv \1](https://arxiv.org/abs/\1)", inspect.getdoc(cls) or "")
    parts = [f"# {kind}={names[0]}", f"`{cls.__module__}.{cls.__qualname__}`", said]
    parts += ["## Shapes", "\n".join(shapes(kind)), LETTERS]
    parts += ["## Config", rows("| key | type | default | what it is |", map(row, fields_of(cls)))]
    parts += ["## Names", *(f"### {name}\n\n{cell(summary(kind, name))}" for name in names)]
    if kind in registry.PARTS:
        words = " ".join([f"{kind}={names[0]}", *cls.example])
        parts += [
            "## To try it",
            f"```\nhark check {kind}={names[0]}\nhark train {words} data.train=[...]\n```",
        ]
    held = [(inspect.getdoc(rule) or "").split("\n", 1)[0] for rule in rules_for(kind, names[0])]
    parts += ["## Rules that it keeps", "\n".join(f"- {demand}" for demand in held)]
    if used := list(uses(kind, names)):
        parts += ["## Recipes", "\n".join(used)]
    return "\n\n".join(parts) + "\n"


def fields_of(cls: type[Plugin]) -> list[Field]:
    return list(table(registry.config_of(cls.kind, registry.names_of(cls)[0])))


def row(field: Field) -> str:
    return f"| `{cell(field.key)}` | {cell(field.type)} | `{cell(field.default)}` | {cell(field.text)} |"


def rows(head: str, body: Iterator[str]) -> str:
    lines = list(body)
    return (
        "\n".join([head, "|---" * (head.count("|") - 1) + "|", *lines])
        if lines
        else "There is nothing to set."
    )


def cell(text: str) -> str:
    """A text that may stand in a table."""
    return text.replace("|", "\\|")


@cache
def shapes(kind: str) -> list[str]:
    """Lines of the contract that say what goes in and what comes out."""
    base = next(
        each for each in (*vars(contracts).values(), *vars(downstream).values()) if is_base(each, kind)
    )
    owners = [each for each in reversed(base.__mro__) if issubclass(each, Plugin) and each is not Plugin]
    return ["```python", *(line for owner in owners for line in promises(owner)), "```"]


def is_base(value: object, kind: str) -> bool:
    return isinstance(value, type) and issubclass(value, Plugin) and vars(value).get("kind") == kind


def uses(kind: str, names: list[str]) -> Iterator[str]:
    """Recipes that choose one of some names of a kind, or have it by default."""
    for group in RECIPES:
        for name, file in recipes(group).items():
            said = yaml.safe_load(file.read_text()) or {}
            lines = said.get("defaults", []) if isinstance(said, dict) else []
            chosen = {
                str(key).split("/")[-1]: value
                for line in lines
                if isinstance(line, dict)
                for key, value in line.items()
            }
            if chosen.get(kind) in names:
                yield f"- `{group}={name}`: {headline(file)}"
