"""What a run leaves beside its checkpoints: files that are complete or not there, `metrics.json`, the table."""

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

from srcolor import __version__
from srcolor.errors import UserError


def results(
    per_image: Mapping[str, Sequence[float]], baselines: Sequence[str], sets: Sequence[str] = ()
) -> dict[str, Any]:
    """Works out the part of `metrics.json` that a test gives.

    Args:
        per_image: Columns of values: `row`, a column a metric, and `<baseline>_<metric>`.
        baselines: Names of the baselines.
        sets: The set of each image, where there are several.

    Returns:
        `test`, `baselines` and `sets` (metric: mean over images, None where no image has a finite value),
        `images`, and `exact`: how many images were reproduced exactly, whose PSNR is infinite. Where there are sets,
        each has its `images` too, and a baseline has `sets` of its own.
    """
    columns = [name for name in per_image if name != "row"]
    for name in columns:
        if any(math.isnan(value) for value in per_image[name]):
            raise UserError(f"{name} is not a number on some test images: the network's answer is not finite.")
    own = [name for name in columns if not any(name.startswith(f"{baseline}_") for baseline in baselines)]

    def means(prefix: str, rows: Sequence[int]) -> dict[str, Any]:
        return {name: _mean([per_image[prefix + name][row] for row in rows]) for name in own}

    def by_set(prefix: str) -> dict[str, Any]:
        places = {name: [row for row, other in enumerate(sets) if other == name] for name in dict.fromkeys(sets)}
        return {name: {**means(prefix, rows), "images": len(rows)} for name, rows in places.items()}

    every = range(len(per_image["row"]))
    measured = {b: {**means(f"{b}_", every), **({"sets": by_set(f"{b}_")} if sets else {})} for b in baselines}
    return {
        "test": means("", every),
        "sets": by_set(""),
        "baselines": measured,
        "images": len(every),
        "exact": sum(value == math.inf for value in per_image.get("psnr", per_image.get("psnr_rgb", ()))),
    }


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if value != math.inf]
    return math.fsum(finite) / len(finite) if finite else None


def record(
    folder: Path, metrics: Mapping[str, Any], names: Sequence[str], columns: Mapping[str, Sequence[Any]]
) -> None:
    """Writes `metrics.json` and `per_image.csv`, each complete or not at all.

    Args:
        folder: The run's.
        metrics: What `results` gives, with `validation`, `parameters` and `train`; version and git revision are added.
            `validation` is the figure that chose the tested network, `{"metric": "psnr", "value": 34.2,
            "higher_is_better": true}`; None for a run that only tests.
        names: The test images', in order.
        columns: Their values.
    """
    keys = [key for key in columns if key != "row"]
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(
        [("file", *keys), *zip(names, *(columns[key] for key in keys), strict=True)]
    )
    write(folder / "per_image.csv", table.getvalue())
    whole = {**metrics, "version": __version__, "git": git_revision()}
    write(folder / "metrics.json", json.dumps(whole, indent=2, allow_nan=False) + "\n")  # last: the run is complete


def write(path: Path, text: str) -> None:
    """Writes a file, complete or not at all."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")
    os.replace(unfinished, path)


def write_picture(path: Path, picture: Image.Image) -> None:
    """Writes a PNG file, complete or not at all."""
    unfinished = path.with_suffix(".unfinished")
    picture.save(unfinished, format="PNG")
    os.replace(unfinished, path)


def git_revision() -> str | None:
    """Tells the checked-out revision of the code, `-dirty` if it was changed; None outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def show(folder: Path, metrics: Mapping[str, Any], name: str, table: Table | None = None) -> None:
    """Prints the table of a run, its speed, and where its files are.

    Args:
        folder: The run's.
        metrics: As in `metrics.json`.
        name: What to call the network.
        table: Another than that of the baselines, this run, and the difference where there is one baseline.
    """
    console = Console()
    console.print(_table(metrics, name) if table is None else table)
    train = metrics["train"]
    if train["images_per_second"] is not None:
        console.print(
            f"trained {train['seconds']:.0f} s at {train['images_per_second']:.0f} images/s ({train['precision']}), "
            f"{metrics['parameters']:,} parameters",
            highlight=False,
        )
    console.print(f"pictures {folder / 'samples'}\nfigures  {folder / 'metrics.json'}", highlight=False, soft_wrap=True)


def _table(metrics: Mapping[str, Any], name: str) -> Table:
    columns = {**metrics["baselines"], name: metrics["test"]}
    table = Table(title=f"{metrics['images']} test images", title_justify="left")
    for heading in ("", *columns):
        table.add_column(heading, justify="right" if heading else "left")
    if len(metrics["baselines"]) == 1:
        table.add_column("difference", justify="right")
    for key in metrics["test"]:
        digits = 2 if key.startswith("psnr") else 4
        values = [column[key] for column in columns.values()]
        cells = ["-" if value is None else f"{value:.{digits}f}" for value in values]
        if len(metrics["baselines"]) == 1:
            cells.append("-" if None in values else f"{values[1] - values[0]:+.{digits}f}")
        table.add_row({"psnr": "PSNR (dB)", "ssim": "SSIM"}.get(key, key), *cells)
    return table
