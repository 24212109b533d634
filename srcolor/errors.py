"""The one exception that is written for a person."""

import math


class UserError(ValueError):
    """Something that the user can mend: the message says what was got, what was expected, and how.

    The commands print it without a traceback and end with exit code 1. Every other exception is a
    defect of srcolor and keeps its traceback.
    """


def install_extra(extra: str) -> str:
    """Return the command that installs an extra, from the checkout; srcolor is not published on a package index.

    >>> install_extra("export")
    "pip install -e '.[export]'"
    """
    return f"pip install -e '.[{extra}]'"


def check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Checks a number that a person gave.

    Args:
        name: How they know it.
        value: What they gave.
        low: The least that makes sense.
        high: The most that makes sense.

    Raises:
        UserError: It is outside.

    >>> check_range("net.channels", 0, 1)
    Traceback (most recent call last):
    srcolor.errors.UserError: net.channels=0: expected at least 1.
    """
    if not low <= value <= high:
        most = "" if high == math.inf else f" and at most {high}"
        raise UserError(f"{name}={value}: expected at least {low}{most}.")
