"""The exception for errors that the user can fix, and helpers for its messages."""

import difflib
import math
from collections.abc import Iterable


class UserError(ValueError):
    """An error that the user can fix: the message says what was given, what was expected, and how to fix it.

    Commands print it without a traceback and exit with code 1. Any other exception is a bug in srcolor and keeps its
    traceback.
    """


def install_extra(extra: str) -> str:
    """Return the command that installs an extra, from the checkout; srcolor is not published on a package index.

    >>> install_extra("export")
    "pip install -e '.[export]'"
    """
    return f"pip install -e '.[{extra}]'"


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Check that an argument is in [low, high].

    Args:
        name: Name of the argument, as the user knows it.
        value: Value of the argument.
        low: The minimum.
        high: The maximum.

    Raises:
        UserError: If the value is out of range.

    >>> check_range("net.channels", 0, 1)
    Traceback (most recent call last):
    srcolor.errors.UserError: net.channels=0: expected at least 1.
    """
    if not low <= value <= high:
        maximum = "" if high == math.inf else f" and at most {high}"
        raise UserError(f"{name}={value}: expected at least {low}{maximum}.")


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return the hint of an error about an unknown name: the closest candidate, or all of them.

    >>> nearest("chanels", ["blocks", "channels"]), nearest("x", ["blocks", "channels"])
    ('Did you mean channels?', 'Known: blocks, channels.')
    """
    candidates = sorted(candidates)
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    return f"Did you mean {close[0]}?" if close else f"Known: {', '.join(candidates)}."
