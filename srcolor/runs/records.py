"""Results of a run: `metrics.json`, `per_image.csv`, and the printed table."""

import csv
import io
import json
import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console
from rich.table import Table
from torch import Tensor

from srcolor import __version__
from srcolor.errors import UserError
from srcolor.metrics import MEASURES

PerImage = Mapping[str, Mapping[str, Sequence[float]]]


def results(
    per_image: PerImage, sets: Sequence[str] = (), statistics: Mapping[str, Mapping[str, Tensor]] | None = None
) -> dict[str, Any]:
    """Compute the test section of `metrics.json`.

    Args:
        per_image: Value of each test image, by network (`net`, then the baselines) and measure.
        sets: Set name of each image, if there are multiple sets.
        statistics: Statistics of the test images, (N, K), by network and `SetMeasure`.

    Returns:
        `test`, `baselines` and `sets` (the mean of each measure over the images, None if no value is finite, and the
        value of each `SetMeasure`), `images`, and `exact`: the number of images that were reproduced exactly, whose
        PSNR is infinite. With multiple sets, each entry of `sets` has its number of `images`, and each baseline has its
        own `sets`.

    Raises:
        UserError: If a value is NaN.
    """
    for net, columns in per_image.items():
        for name, values in columns.items():
            if any(map(math.isnan, values)):
                raise UserError(f"{_column(net, name)} is NaN on some test images: the network's output is not finite.")
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(sets):
        positions.setdefault(name, []).append(position)

    set_level = {} if statistics is None else statistics

    def summary(net: str, part: Sequence[int]) -> dict[str, Any]:
        means = {name: _mean([values[position] for position in part]) for name, values in per_image[net].items()}
        whole = {name: MEASURES[name].summarize(rows[part]).item() for name, rows in set_level.get(net, {}).items()}
        return means | whole

    def by_set(net: str) -> dict[str, Any]:
        return {name: {**summary(net, part), "images": len(part)} for name, part in positions.items()}

    baselines = [net for net in per_image if net != "net"]
    psnr = per_image["net"].get("psnr", per_image["net"].get("psnr_rgb", ()))
    every: list[Any] = [*per_image["net"].values(), *set_level.get("net", {}).values()]
    images = len(every[0])
    everything = list(range(images))
    return {
        "test": summary("net", everything),
        "sets": by_set("net"),
        "baselines": {net: summary(net, everything) | ({"sets": by_set(net)} if sets else {}) for net in baselines},
        "images": images,
        "exact": sum(value == math.inf for value in psnr),
    }


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if value != math.inf]
    return math.fsum(finite) / len(finite) if finite else None


def record(folder: Path, metrics: Mapping[str, Any], names: Sequence[str], per_image: PerImage) -> None:
    """Atomically write `per_image.csv` and `metrics.json`.

    Args:
        folder: The run's folder.
        metrics: The result of `results`, with `validation`, `parameters` and `train`; version and Git revision are
            added. `validation` is the monitored metric of the tested network, `{"metric": "psnr", "value": 34.2,
            "higher_is_better": true}`; None for a run that only tests.
        names: Names of the test images, in order.
        per_image: See `results`. A column is named after its measure, with the baseline before it: `bicubic_psnr`.
    """
    columns = {_column(net, name): values for net, named in per_image.items() for name, values in named.items()}
    table = io.StringIO()
    rows = [("file", *columns), *zip(names, *columns.values(), strict=True)]
    csv.writer(table, lineterminator="\n").writerows(rows)
    write(folder / "per_image.csv", table.getvalue())
    whole = {**metrics, "version": __version__, "git": git_revision()}
    write(folder / "metrics.json", json.dumps(whole, indent=2, allow_nan=False) + "\n")  # last: the run is complete


def _column(net: str, name: str) -> str:
    return name if net == "net" else f"{net}_{name}"


def write(path: Path, text: str) -> None:
    """Atomically write a text file."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(unfinished, path)


def write_picture(path: Path, picture: Image.Image) -> None:
    """Atomically write a PNG file."""
    unfinished = path.with_suffix(".unfinished")
    picture.save(unfinished, format="PNG")
    os.replace(unfinished, path)


def git_revision() -> str | None:
    """Return the checked-out revision of the code, with `-dirty` if it was changed; None outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def show(folder: Path, metrics: Mapping[str, Any], name: str, table: Table | None = None) -> None:
    """Print the table of a run, its speed, and the paths of its files.

    Args:
        folder: The run's folder.
        metrics: Content of `metrics.json`.
        name: Name of the network.
        table: The table; by default the baselines and the network, and their difference if there is one baseline.
    """
    console = Console()
    for one in _tables(metrics, name) if table is None else [table]:
        console.print(one)
    train = metrics["train"]
    if train["images_per_second"] is not None:
        console.print(
            f"trained {train['seconds']:.0f} s at {train['images_per_second']:.0f} images/s ({train['precision']}), "
            f"{metrics['parameters']:,} parameters",
            highlight=False,
        )
    console.print(f"samples  {folder / 'samples'}\nmetrics  {folder / 'metrics.json'}", highlight=False, soft_wrap=True)


def show_next(folder: Path, mode: str | None) -> None:
    """Print the commands to run after training.

    Args:
        folder: The run's folder.
        mode: Mode of `srcolor-predict` that uses the network; None if there is none.
    """
    run = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    commands = [". .venv/bin/activate", "tensorboard --logdir runs", f"python eval.py ckpt={run}"]
    if mode is not None:
        commands.append(f"srcolor-predict photo.jpg --mode {mode} --run {run}")
    Console().print("next     " + "\n         ".join(commands), highlight=False, markup=False, soft_wrap=True)


def _long_table(images: int, rows: Mapping[str, Mapping[str, float | None]]) -> Table:
    """Return a table with one row per network, for many networks."""
    measures = next(iter(rows.values()))
    table = Table(title=f"{images} test images", title_justify="left")
    table.add_column("", no_wrap=True)
    for key in measures:
        table.add_column(MEASURES[key].heading, justify="right")
    for name, values in rows.items():
        cells = ("-" if values[key] is None else f"{values[key]:.{MEASURES[key].digits}f}" for key in measures)
        table.add_row(name, *cells)
    return table


def _tables(metrics: Mapping[str, Any], name: str) -> list[Table]:
    """Return the table of the baselines and the network, in parts of four columns."""
    columns = {**metrics["baselines"], name: metrics["test"]}
    if len(columns) > 4 and len(columns) >= len(metrics["test"]):
        return [_long_table(metrics["images"], columns)]
    keys = list(dict.fromkeys(key for column in columns.values() for key in column if key in MEASURES))
    names = list(columns)
    tables = []
    for first in range(0, len(names), 4):
        part = names[first : first + 4]
        table = Table(title=None if first else f"{metrics['images']} test images", title_justify="left")
        for heading in ("", *part):
            table.add_column(heading, justify="right" if heading else "left", no_wrap=True)
        if len(columns) == 2:
            table.add_column("difference", justify="right")
        for key in keys:
            digits = MEASURES[key].digits
            values = [columns[one].get(key) for one in part]
            cells = ["-" if value is None else f"{value:.{digits}f}" for value in values]
            if len(columns) == 2:
                cells.append("-" if None in values else f"{values[1] - values[0]:+.{digits}f}")
            table.add_row(MEASURES[key].heading, *cells)
        tables.append(table)
    return tables
