"""Report of a comparison of routes: `comparison.json`, `.csv` and `.md`, and tables for a terminal.

`results`, below, is the content of `comparison.json`.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from srcolor.analysis import studies, tables
from srcolor.analysis.studies.base import Study
from srcolor.runs import records

COSTS = {
    "ms_per_image": tables.Column("ms/image", 1),
    "peak_memory_mb": tables.Column("memory MiB", 1),
    "train_seconds": tables.Column("training s", 0),
    "train_images_per_second": tables.Column("training images/s", 0),
    "train_peak_memory_mb": tables.Column("training memory MiB", 0),
}


def write(folder: Path, results: Mapping[str, Any]) -> None:
    """Atomically write `comparison.csv`, `.md`, and `.json`, in this order."""
    metrics = _columns(_study(results))
    rows = {**results["routes"], **results["floors"]}
    keys = [key for key in next(iter(rows.values())) if key != "difference"]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    ends = [f"{metric}_{end}" for metric in metrics for end in ("difference", "low", "high")]
    writer.writerow(["route", *keys, *ends])
    for name, row in rows.items():
        values = [value for metric in metrics for value in row["difference"][metric]]
        writer.writerow([name, *(row[key] for key in keys), *values])
    records.write(folder / "comparison.csv", table.getvalue())
    records.write(folder / "comparison.md", markdown(results))
    records.write(folder / "comparison.json", json.dumps(results, indent=2, allow_nan=False) + "\n")


def markdown(results: Mapping[str, Any]) -> str:
    """Return all tables as Markdown."""
    title = f"{_study(results).title} at {results['size']}x{results['size']}"
    parts = [f"# {title}\n", f"{test_set(results)}.\n"]
    parts += [f"{title}\n\n{tables.markdown(lines)}" for title, lines in _tables(results)]
    return "\n".join(parts)


def test_set(results: Mapping[str, Any]) -> str:
    """Return the size of the test set: the number of crops, and of the pictures they are from where it differs.

    >>> test_set({"images": 117, "pictures": 13})
    '117 test crops of 13 pictures'
    """
    crops = results["images"]
    pictures = results.get("pictures", crops)  # not recorded by srcolor 0.1
    if pictures == crops:
        return f"{crops} test images"
    return f"{crops} test crops of {pictures} picture{'' if pictures == 1 else 's'}"


def terminal(results: Mapping[str, Any]) -> Iterator[Table]:
    """Yield the tables for a terminal, without the tables of differences, which are too wide."""
    for title, lines in _tables(results):
        if not title.startswith("Difference"):
            yield tables.rich(lines, title)


def over_seeds(results: Mapping[int, Mapping[str, Any]]) -> str:
    """Summarize the comparisons of multiple seeds as Markdown.

    Every value is a mean and a standard deviation over the seeds. A `*` marks values whose difference from the
    group's reference has the same sign in every seed, with an interval that excludes zero in each.

    Args:
        results: Content of `comparison.json` by seed.
    """
    first = next(iter(results.values()))
    columns = _columns(_study(first))
    seeds = ", ".join(map(str, results))
    parts = [
        f"Means over seeds {seeds} ± their standard deviation, {test_set(first)}. `*`: the "
        "difference from the reference has the same sign and an interval without zero in every seed.\n"
    ]
    headings = [column.heading for column in columns.values()]
    for title, reference, side in _groups(first):
        lines = [["route", *headings, COSTS["train_seconds"].heading]]
        for part in ("routes", "floors"):
            for name in (name for name, row in first[part].items() if row["given"] == side):
                rows = [comparison[part][name] for comparison in results.values()]
                cells = [
                    _over_seeds([row[metric] for row in rows], [row["difference"][metric] for row in rows], digits)
                    for metric, (_, digits) in columns.items()
                ]
                seconds = [row["train_seconds"] for row in rows]
                lines.append([name, *cells, "-" if None in seconds else tables.number(float(np.mean(seconds)), 0)])
        parts.append(f"{title}; reference {reference}\n\n{tables.markdown(lines)}")
    lines = [["", *headings]]
    for name in first["questions"]:
        differences = [comparison["questions"][name] for comparison in results.values()]
        cells = [
            _over_seeds([row[metric][0] for row in differences], [row[metric] for row in differences], digits)
            for metric, (_, digits) in columns.items()
        ]
        lines.append([name, *cells])
    parts.append(f"Differences across the groups\n\n{tables.markdown(lines)}")
    return "\n".join(parts)


def _over_seeds(values: Sequence[float | None], differences: Sequence[Sequence[float | None]], digits: int) -> str:
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        return "-"
    signs = {
        np.sign(low) if low is not None and high is not None and low * high > 0 else 0 for _, low, high in differences
    }
    mark = "*" if len(signs) == 1 and 0 not in signs else ""
    return tables.spread(float(np.mean(finite)), float(np.std(finite, ddof=1)), digits) + mark


def _study(results: Mapping[str, Any]) -> Study:
    return studies.load(results.get("task", "colorization"))  # srcolor 0.1 compared no other task


def _columns(study: Study) -> dict[str, tables.Column]:
    return {metric: tables.column(metric) for metric in study.metrics}


def _groups(results: Mapping[str, Any]) -> Iterator[tuple[str, str, int | str]]:
    """Yield the title, the reference and the `given` of each group of routes."""
    study, sides = _study(results), {"small": results["size"] // results["scale"], "large": results["size"]}
    for group, title in study.groups.items():
        yield title.format(**sides), study.reference[group], sides.get(group, group)


def _tables(results: Mapping[str, Any]) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the title and lines of each table: means and differences of each group, across them, and costs."""
    study = _study(results)
    columns = _columns(study)
    headings = [column.heading for column in columns.values()]

    def line(name: str, differences: Mapping[str, Sequence[float | None]]) -> list[str]:
        return [name, *(tables.interval(differences[metric], digits) for metric, (_, digits) in columns.items())]

    for title, reference, side in _groups(results):
        both = {**results["routes"], **results["floors"]}
        rows = {name: row for name, row in both.items() if row["given"] == side}
        means = [[name, *_numbers(row, columns)] for name, row in rows.items()]
        yield title, [["route", *headings], *means]
        differences = [line(name, row["difference"]) for name, row in rows.items() if name != reference]
        if not differences:  # the reference is alone
            continue
        title = f"Difference to {reference}, with the 95% interval of a paired bootstrap over the pictures"
        yield title, [["route", *headings], *differences]
    differences = [line(name, row) for name, row in results["questions"].items()]
    yield "Differences across the groups, with the same intervals", [["", *headings], *differences]
    lines = [["route", "input", *(column.heading for column in COSTS.values())]]
    for name, row in results["routes"].items():
        side = row["given"]
        lines.append([name, side if isinstance(side, str) else f"{side}x{side}", *_numbers(row, COSTS)])
    yield "Cost of the routes and of training their networks", lines
    if not results["steps"]:  # an external network is not trained
        return
    lines = [["size", "batch", "images/s", "memory MiB"]]
    for step in results["steps"]:
        size = f"{step['side']}x{step['side']}"
        lines.append([size, str(step["batch"]), f"{step['images_per_second']:.0f}", f"{step['peak_memory_mb']:.0f}"])
    yield f"A training step of the {study.network}, in float32, with Adam", lines


def _numbers(row: Mapping[str, float | None], columns: Mapping[str, tables.Column]) -> list[str]:
    return [tables.number(row[key], digits) for key, (_, digits) in columns.items()]
