"""What a rule is, and how its verdict is told."""

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from research.conformance.case import Case
from research.errors import HarkError

Rule = Callable[[Case], None]

_HERE, _TORCH = Path(__file__).parent, Path(torch.__file__).parent


class Broken(Exception):  # noqa: N818  it names a verdict, as in "broken: ..."
    """A plugin does not keep a rule: what was seen, and what to do. Why it matters is in the rule's docstring."""


@dataclass(frozen=True)
class Result:
    rule: Rule
    problem: str | None = None  # None: kept

    @property
    def demand(self) -> str:
        """The first line of the rule's docstring."""
        return (inspect.getdoc(self.rule) or "").split("\n", 1)[0]

    @property
    def reason(self) -> str:
        """The rest of it, in one line: why the rule matters."""
        return " ".join((inspect.getdoc(self.rule) or "").split("\n")[1:]).strip()


def judge(rule: Rule, case: Case) -> Result:
    """Hold a plugin to a rule. A crash is a broken rule too, told with its place."""
    try:
        rule(case)
    except (Broken, HarkError) as error:
        return Result(rule, str(error))
    except Exception as error:  # noqa: BLE001  a plugin can fail in any way
        return Result(rule, crash(error))
    return Result(rule)


def crash(error: BaseException) -> str:
    """Tell any exception in one line: what it says and the innermost line that is neither torch's nor ours."""
    says = str(error).strip().split("\n", 1)[0]
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if not Path(f.filename).is_relative_to(_TORCH)]
    at = next(
        (f for f in reversed(theirs) if Path(f.filename).parent != _HERE), theirs[-1] if theirs else None
    )
    place = f" at {at.filename}:{at.lineno}" if at else ""
    return f"{type(error).__name__}{place}: {says}"
