"""Compare two runs image by image: the figures of `per_image.csv`, and the rows of `samples/test.png`."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from omegaconf import OmegaConf
from PIL import Image

from srcolor.errors import UserError
from srcolor.metrics import MEASURES
from srcolor.runs.run_folder import configuration

# Orders of test images: sort keys, functions of how much better the second run is.
ORDERS: dict[str, Callable[[float], float]] = {
    "largest difference": lambda better: -abs(better),
    "second run better": lambda better: -better,
    "first run better": lambda better: better,
}
WIDTH = 1200
HEADER, GAP = 18, 4  # pixels of `training.samples.grid`


class Row(NamedTuple):
    """A test image of two runs.

    Attributes:
        file: Name of the image.
        first: Value of the measure in the first run.
        second: Value in the second run.
        difference: Second minus first; 0 if both are infinite.
        picture: Rows of both sample grids, the first above the second; None if the image is in neither or one only.
    """

    file: str
    first: float
    second: float
    difference: float
    picture: Image.Image | None


def tested(folder: Path) -> list[Path]:
    """Return the tested runs below a folder, newest first."""
    files = sorted(folder.glob("**/per_image.csv"), key=lambda file: file.stat().st_mtime, reverse=True)
    return [file.parent for file in files if (file.parent / ".hydra").exists()]


def measures(first: Path, second: Path) -> list[str]:
    """Return the measures that both runs have for their network."""
    one, other = (next(iter(_figures(run).values()), {}) for run in (first, second))
    return [name for name in one if name in other and name in MEASURES]


def rows(first: Path, second: Path, measure: str, order: str) -> list[Row]:
    """Return the test images that two runs share, sorted by the difference.

    Args:
        first: A run folder.
        second: Another.
        measure: Name of a measure that both have.
        order: One of `ORDERS`.

    Raises:
        UserError: If they have no test image or not this measure in common.
    """
    if measure not in measures(first, second):
        raise UserError(f"{first} and {second} have no {measure} in common. Choose two tested runs of the same task.")
    one, other = _figures(first), _figures(second)
    shared = [file for file in one if file in other]
    if not shared:
        raise UserError(f"{first} and {second} were tested on different images. Choose two runs of the same data.")
    strips, other_strips = _strips(first, list(one)), _strips(second, list(other))
    found = []
    for file in shared:
        pair = one[file][measure], other[file][measure]
        picture = _stack(strips[file], other_strips[file]) if file in strips and file in other_strips else None
        found.append(Row(file, *pair, 0.0 if pair[0] == pair[1] else pair[1] - pair[0], picture))
    sign = 1 if MEASURES[measure].higher_is_better else -1
    return sorted(found, key=lambda row: ORDERS[order](sign * row.difference))


def _figures(run: Path) -> dict[str, dict[str, float]]:
    """Return the values of each test image by column of `per_image.csv`."""
    with open(run / "per_image.csv", newline="", encoding="utf-8") as file:
        return {row.pop("file"): {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)}


def _strips(run: Path, files: list[str]) -> dict[str, Image.Image]:
    """Return the row of each image in a run's grid of test images, below the headings; empty if there is no grid."""
    grid = run / "samples" / "test.png"
    config = configuration(run)
    drawn = OmegaConf.select(config, "callbacks.pictures.images", default=0)
    count = min(drawn, len(files), OmegaConf.select(config, "data.batch_size", default=drawn))
    if count == 0 or not grid.is_file():
        return {}
    with Image.open(grid) as opened:
        whole = opened.convert("RGB")
    pitch, rest = divmod(whole.height - HEADER + GAP, count)
    if rest:  # drawn by another version
        return {}
    strips = {}
    for number, file in enumerate(files[:count]):
        strip = Image.new("RGB", (whole.width, HEADER + pitch - GAP), "white")
        strip.paste(whole.crop((0, 0, whole.width, HEADER)))
        top = HEADER + number * pitch
        strip.paste(whole.crop((0, top, whole.width, top + pitch - GAP)), (0, HEADER))
        strips[file] = strip
    return strips


def _stack(first: Image.Image, second: Image.Image) -> Image.Image:
    """Return two images one above the other, enlarged to about `WIDTH` pixels without smoothing."""
    both = Image.new("RGB", (max(first.width, second.width), first.height + GAP + second.height), "white")
    both.paste(first)
    both.paste(second, (0, first.height + GAP))
    factor = max(1, WIDTH // both.width)
    return both.resize((factor * both.width, factor * both.height), Image.Resampling.NEAREST)
