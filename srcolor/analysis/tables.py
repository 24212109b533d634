"""Tables of metrics: headings, decimals, and lines of cells as Markdown or for a terminal."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from srcolor.metrics import MEASURES


class Column(NamedTuple):
    """Heading and number of decimals of a metric."""

    heading: str
    digits: int


def column(metric: str) -> Column:
    """Return the heading and decimals of a metric; a value that is not a `Measure` has its name and 4 decimals.

    >>> column("ssim"), column("loss")
    (Column(heading='SSIM', digits=4), Column(heading='loss', digits=4))
    """
    measure = MEASURES.get(metric)
    return Column(metric, 4) if measure is None else Column(measure.heading, measure.digits)


def number(value: float | None, digits: int) -> str:
    """Format a number; `-` for None and NaN.

    >>> number(31.239, 2), number(None, 2)
    ('31.24', '-')
    """
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def spread(mean: float | None, deviation: float | None, digits: int) -> str:
    """Format a mean ± its standard deviation; the mean alone if there is no deviation.

    >>> spread(31.239, 0.061, 2), spread(31.239, None, 2), spread(None, None, 2)
    ('31.24 ± 0.06', '31.24', '-')
    """
    parts = [number(value, digits) for value in (mean, deviation)]
    return parts[0] if "-" in parts else " ± ".join(parts)


def interval(difference: Sequence[float | None], digits: int) -> str:
    """Format a difference with the ends of its interval; `-` if one of the three is None.

    >>> interval([0.512, -0.1, 1.124], 2)
    '+0.51 [-0.10, +1.12]'
    """
    if None in difference:
        return "-"
    mean, low, high = (f"{value:+.{digits}f}" for value in difference)
    return f"{mean} [{low}, {high}]"


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first line has the headings, and all columns but the first align right.

    >>> print(markdown([["route", "PSNR"], ["chain", "31.24"]]), end="")
    | route | PSNR |
    | --- | ---: |
    | chain | 31.24 |
    """
    head, *rest = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rest))


def rich(lines: Sequence[Sequence[str]], title: str) -> Table:
    """Return a table for a terminal; see `markdown` for the lines."""
    head, *rest = lines
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(head):
        table.add_column(heading, justify="right" if number else "left")
    for line in rest:
        table.add_row(*line)
    return table
