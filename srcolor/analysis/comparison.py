"""What a comparison of routes says, on paper: `comparison.json`, `.csv` and `.md`, and tables for a terminal.

`told`, below, is what `comparison.json` holds.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from srcolor.analysis.routes import REFERENCE
from srcolor.runs import records

# Name, heading and digits of each column of the tables.
COLUMNS = {
    "psnr": ("PSNR", 2),
    "ssim": ("SSIM", 4),
    "psnr_luma": ("PSNR luma", 2),
    "ab_rmse": ("ab-RMSE", 3),
    "ciede2000": ("CIEDE2000", 3),
    "colorfulness_ratio": ("colorfulness ratio", 3),
    "hue_error": ("hue error", 2),
    "tint": ("tint", 3),
    "patches": ("patches", 3),
    "detail": ("detail", 3),
}
COSTS = {
    "ms_per_image": ("ms/image", 1),
    "peak_memory_mb": ("memory MiB", 1),
    "train_seconds": ("trained s", 0),
    "train_images_per_second": ("images/s", 0),
    "train_peak_memory_mb": ("step MiB", 0),
}


def write(folder: Path, told: Mapping[str, Any]) -> None:
    """Writes `comparison.csv`, `.md`, and `.json` last, each complete or not at all."""
    rows = {**told["routes"], **told["floors"]}
    keys = [key for key in next(iter(rows.values())) if key != "difference"]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    ends = [f"{metric}_{end}" for metric in COLUMNS for end in ("difference", "low", "high")]
    writer.writerow(["route", *keys, *ends])
    for name, row in rows.items():
        values = [value for metric in COLUMNS for value in row["difference"][metric]]
        writer.writerow([name, *(row[key] for key in keys), *values])
    records.write(folder / "comparison.csv", table.getvalue())
    records.write(folder / "comparison.md", markdown(told))
    records.write(folder / "comparison.json", json.dumps(told, indent=2, allow_nan=False) + "\n")


def markdown(told: Mapping[str, Any]) -> str:
    """The tables as Markdown."""
    parts = [f"# Routes to colour at {told['size']}x{told['size']}\n", f"{told['images']} test images.\n"]
    parts += [f"{title}\n\n{_markdown_table(lines)}" for title, lines in _tables(told)]
    return "\n".join(parts)


def over_seeds(told: Mapping[int, Mapping[str, Any]]) -> str:
    """Folds the comparisons of several seeds, as Markdown.

    Mean and standard deviation over the seeds of every figure, with a `*` where the difference to the group's
    reference has the same sign in every seed and an interval clear of zero in each.

    Args:
        told: Seed, and what its `comparison.json` says.
    """
    one = next(iter(told.values()))
    seeds = ", ".join(map(str, told))
    parts = [
        f"Means over seeds {seeds} ± their standard deviation, {one['images']} test images. `*`: differs from the "
        "reference with an interval clear of zero, the same way in every seed.\n"
    ]
    for given, side in (("small", one["size"] // one["scale"]), ("large", one["size"])):
        lines = [["route", *(heading for heading, _ in COLUMNS.values()), "trained s"]]
        for part in ("routes", "floors"):
            for name in (name for name, row in one[part].items() if row["given"] == side):
                rows = [comparison[part][name] for comparison in told.values()]
                cells = [
                    _over_seeds([row[metric] for row in rows], [row["difference"][metric] for row in rows], digits)
                    for metric, (_, digits) in COLUMNS.items()
                ]
                seconds = [row["train_seconds"] for row in rows]
                lines.append([name, *cells, "-" if None in seconds else f"{np.mean(seconds):.0f}"])
        parts.append(f"Given gray {side}x{side}; reference {REFERENCE[given]}\n\n{_markdown_table(lines)}")
    lines = [["", *(heading for heading, _ in COLUMNS.values())]]
    for name in one["questions"]:
        asked = [comparison["questions"][name] for comparison in told.values()]
        cells = [
            _over_seeds([ends[metric][0] for ends in asked], [ends[metric] for ends in asked], digits)
            for metric, (_, digits) in COLUMNS.items()
        ]
        lines.append([name, *cells])
    parts.append(f"Differences across the groups\n\n{_markdown_table(lines)}")
    return "\n".join(parts)


def _over_seeds(values: Sequence[float | None], differences: Sequence[Sequence[float | None]], digits: int) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    clear = {
        np.sign(low) if low is not None and high is not None and low * high > 0 else 0 for _, low, high in differences
    }
    real = "*" if len(clear) == 1 and 0 not in clear else ""
    return f"{np.mean(known):.{digits}f} ± {np.std(known, ddof=1):.{digits}f}{real}"


def _markdown_table(lines: Sequence[Sequence[str]]) -> str:
    head, *rest = lines
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rest))


def tables(told: Mapping[str, Any]) -> Iterator[Table]:
    """The tables for a terminal; those of differences are too wide for it."""
    for title, (head, *rest) in _tables(told):
        if title.startswith("Difference"):
            continue
        table = Table(title=title, title_justify="left")
        for number, heading in enumerate(head):
            table.add_column(heading, justify="right" if number else "left")
        for line in rest:
            table.add_row(*line)
        yield table


def _tables(told: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """Title and lines of each table: for both groups means and then differences; and what training takes."""
    headings = [heading for heading, _ in COLUMNS.values()]
    for given, side in (("small", told["size"] // told["scale"]), ("large", told["size"])):
        both = {**told["routes"], **told["floors"]}
        rows = {name: row for name, row in both.items() if row["given"] == side}
        lines = [["route", *headings]]
        for name, row in rows.items():
            lines.append([name, *(_number(row[metric], digits) for metric, (_, digits) in COLUMNS.items())])
        yield f"Given gray {side}x{side}", lines
        lines = [["route", *headings]]
        for name, row in rows.items():
            if name != REFERENCE[given]:
                pairs = [(row["difference"][metric], digits) for metric, (_, digits) in COLUMNS.items()]
                lines.append([name, *(_interval(ends, digits) for ends, digits in pairs)])
        yield f"Difference to {REFERENCE[given]}, with the 95 % interval of a paired bootstrap over the images", lines
    lines = [["", *headings]]
    for name, ends in told["questions"].items():
        lines.append([name, *(_interval(ends[metric], digits) for metric, (_, digits) in COLUMNS.items())])
    yield "Differences across the groups, with the same intervals", lines
    lines = [["route", "given", *(heading for heading, _ in COSTS.values())]]
    for name, row in told["routes"].items():
        costs = [_number(row[key], digits) for key, (_, digits) in COSTS.items()]
        lines.append([name, f"{row['given']}x{row['given']}", *costs])
    yield "What the routes take, and the training behind them", lines
    lines = [["size", "batch", "images/s", "memory MiB"]]
    for step in told["steps"]:
        side = f"{step['side']}x{step['side']}"
        lines.append([side, str(step["batch"]), f"{step['images_per_second']:.0f}", f"{step['peak_memory_mb']:.0f}"])
    yield "A training step of the colour network, in float32, by Adam", lines


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _interval(ends: Sequence[float | None], digits: int) -> str:
    mean, low, high = ends
    if mean is None or low is None or high is None:
        return "-"
    return f"{mean:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
