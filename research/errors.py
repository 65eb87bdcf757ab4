"""The one exception that users see."""

import difflib
from collections.abc import Iterable


class HarkError(Exception):
    """Bad input, told in one line: names the file, line, key or value, and what to do. Exit code 2."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'nest'?`, or nothing when no known word comes close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""
