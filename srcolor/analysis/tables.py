"""Tables of metrics: headings, decimals, and lines of cells as Markdown or for a terminal."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table


class Column(NamedTuple):
    """Heading and number of decimals of a metric."""

    heading: str
    digits: int


METRICS = {
    "psnr": Column("PSNR", 2),
    "ssim": Column("SSIM", 4),
    "psnr_luma": Column("PSNR luma", 2),
    "psnr_y": Column("PSNR Y", 2),
    "ssim_y": Column("SSIM Y", 4),
    "psnr_rgb": Column("PSNR RGB", 2),
    "ab_rmse": Column("ab-RMSE", 3),
    "ciede2000": Column("CIEDE2000", 3),
    "colourfulness": Column("colorfulness", 4),
    "colourfulness_ratio": Column("colorfulness ratio", 3),
    "hue_error": Column("hue error", 2),
    "tint": Column("tint", 3),
    "patches": Column("patches", 3),
    "detail": Column("detail", 3),
}


def column(metric: str) -> Column:
    """Return heading and decimals of a metric; the name itself and 4 decimals if it has none.

    >>> column("ssim"), column("val/loss")
    (Column(heading='SSIM', digits=4), Column(heading='val/loss', digits=4))
    """
    return METRICS.get(metric, Column(metric, 4))


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
    """Return a table for a terminal; lines as for `markdown`."""
    head, *rest = lines
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(head):
        table.add_column(heading, justify="right" if number else "left")
    for line in rest:
        table.add_row(*line)
    return table
