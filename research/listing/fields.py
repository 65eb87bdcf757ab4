"""What the fields of a config are for, read from the comments beside them."""

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, get_type_hints


@dataclass(frozen=True)
class Field:
    key: str  # dotted, where a field is a section of its own
    type: str
    default: str
    text: str  # empty: nobody says


def table(config: Any, prefix: str = "") -> Iterator[Field]:
    """Every field of a config, those of its sections too, with the values that it has."""
    hints = get_type_hints(type(config))
    for item in fields(config):
        value, hint = getattr(config, item.name), hints[item.name]
        if is_dataclass(value):
            yield from table(value, f"{prefix}{item.name}.")
        else:
            yield Field(
                f"{prefix}{item.name}", spelled(hint), plain(value), text(type(config), item.name, hint)
            )


def text(cls: type, name: str, hint: Any) -> str:
    """The comment beside a field, in the class that has it last; of an enum without one, the enum's docstring."""
    for base in cls.__mro__:
        if is_dataclass(base) and (said := comments(base).get(name)):
            return said
    if isinstance(hint, type) and issubclass(hint, Enum) and hint.__doc__ != Enum.__doc__:
        return (inspect.getdoc(hint) or "").split("\n", 1)[0]
    return ""


@cache
def comments(cls: type) -> dict[str, str]:
    """Field -> the comment on its lines, of those that a class defines itself."""
    nodes, said = read(cls)
    found = {}
    for node in nodes:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            last = node.end_lineno or node.lineno
            found[node.target.id] = " ".join(
                said[line] for line in range(node.lineno, last + 1) if line in said
            )
    return found


def promises(cls: type) -> Iterator[str]:
    """A contract's attributes that have a comment, and its methods with theirs or the first line of their docstring."""
    nodes, said = read(cls)
    for node in nodes:
        if isinstance(node, ast.AnnAssign) and (comment := comments(cls)[ast.unparse(node.target)]):
            yield f"{ast.unparse(node)}  # {comment}"
        elif isinstance(node, ast.FunctionDef) and node.name != "__init__":
            comment = said.get(node.lineno) or (ast.get_docstring(node) or "").split("\n", 1)[0]
            gives = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            yield f"def {node.name}({ast.unparse(node.args)}){gives}  # {comment}"


def read(cls: type) -> tuple[list[ast.stmt], dict[int, str]]:
    """The statements in a class, and the comment of every line that has one."""
    source = textwrap.dedent(inspect.getsource(cls))
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    found = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    return node.body, {line: said for line, said in found.items() if not said.startswith(("noqa", "type:"))}


def spelled(hint: Any) -> str:
    """A type as one writes it; of an enum, its words."""
    if isinstance(hint, type) and issubclass(hint, Enum):
        return ", ".join(hint.__members__)
    return hint.__name__ if isinstance(hint, type) and not hasattr(hint, "__args__") else str(hint)


def plain(value: Any) -> str:
    """A value as one types it."""
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, list | tuple):
        return f"[{', '.join(plain(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value) if value != "" else "''"
