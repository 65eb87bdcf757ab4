"""One text -> the paths that it stands for."""

import os
import re
from itertools import chain
from pathlib import Path


def expand(text: str, folder: str = "") -> list[str]:
    """Paths of a pattern, from `folder` on: `a_{0..15}.jsonl`, `a_{1,7}.jsonl`, NeMo's `_OP_0..15_CL_`, `a,b`.

    What exists as it is written is no pattern.
    """
    if Path(placed(text, folder)).exists():
        return [placed(text, folder)]
    text = text.replace("_OP_", "{").replace("_CL_", "}")
    several = re.split(r",(?![^{]*\})", text)
    return [placed(path, folder) for one in several for path in braces(one)]


def placed(path: str, folder: str) -> str:
    return os.path.join(folder, os.path.expanduser(path))  # noqa: PTH111, PTH118  Path would normalise a pattern


def braces(text: str) -> list[str]:
    opening = re.search(r"\{([^{}]*)\}", text)
    if opening is None:
        return [text]
    before, after = text[: opening.start()], text[opening.end() :]
    return list(chain.from_iterable(braces(before + one + after) for one in choices(opening[1])))


def choices(inner: str) -> list[str]:
    span = re.fullmatch(r"(\d+)\.\.(\d+)", inner)
    if span is None:
        return inner.split(",")
    return [str(n).zfill(len(span[1])) for n in range(int(span[1]), int(span[2]) + 1)]
