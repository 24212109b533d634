"""Slides of stained cells that the project draws itself: segmentation without a download."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import fourier_gaussian, gaussian_filter

from srcolor.data.crops import Pixels
from srcolor.data.datamodule import ImageDataModule
from srcolor.data.index import Item
from srcolor.errors import check_range

VERSION = "1"  # of the drawing: changes with any pixel of it
SIDE = 256
REACH = 32  # more than the longest radius of a cell, 15 x 1.12 x 1.9
SPLIT_COUNTS = {"train": 240, "val": 30, "test": 30}

REDDER = (0.20, 0.0, -0.16)  # nearly keeps the luma
Field = NDArray[np.float64]


@dataclass(kw_only=True, eq=False)
class Blobs(ImageDataModule):
    """300 slides of 256x256: purple cells (class 1) on pink tissue (class 0), drawn from the number of the slide.

    Stain and focus differ between slides, some cells are pale, and the tissue has red stains as dark as cells, so no
    threshold separates them. The slides are the same for every `seed`.
    """

    planes = 4
    random_crop = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        check_range("size", self.size, 11, SIDE)

    def items(self) -> list[Item]:
        """Return the slides, with their splits."""
        splits = [split for split, count in SPLIT_COUNTS.items() for _ in range(count)]
        return [Item(f"slide_{number:03d}", VERSION, split) for number, split in enumerate(splits)]

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Draw a slide."""
        pixels = draw(int(item.name.removeprefix("slide_")))
        return pixels, hashlib.sha256(pixels.data).hexdigest()

    def settings(self) -> dict[str, Any]:
        """See `Source`."""
        return super().settings() | {"version": VERSION}

    def identity(self) -> str:
        """Return the name of the drawing."""
        return "srcolor.blobs"


def draw(number: int) -> Pixels:
    """Draw a slide, 256 x 256 x 4: RGB, and a mask with 1 in cells and 0 elsewhere."""
    random = np.random.default_rng(number)
    light = np.array([0.93, 0.80, 0.88]) + random.uniform(-0.06, 0.06, 3)
    pink = np.array([0.84, 0.48, 0.66]) + random.uniform(-0.08, 0.08, 3)
    purple = np.array([0.42, 0.22, 0.52]) + random.uniform(-0.10, 0.10, 3)

    fibers = _texture(random, (random.uniform(6, 14), random.uniform(2, 5)))
    rgb = light + _share(fibers + 0.7 * _texture(random, (24, 24)))[..., None] * (pink - light)
    smears = np.clip(_texture(random, (9, 9)) - 1.1, 0, 1)  # as dark as cells, but redder and without an edge
    rgb += (0.9 * smears)[..., None] * (purple + REDDER - rgb)

    mask = np.zeros((SIDE, SIDE), bool)
    grain = 1 + 0.15 * _texture(random, (1.5, 1.5))
    for _ in range(random.integers(6, 45)):
        window, cell = _cell(random)
        stain = random.uniform(0.4, 1.0) * (cell * grain[window])[..., None]
        rgb[window] += stain * (purple + random.normal(0, 0.03, 3) - rgb[window])
        mask[window] |= cell

    focus = random.uniform(0.5, 1.6)
    rgb = gaussian_filter(rgb, (focus, focus, 0)) + random.normal(0, random.uniform(0.01, 0.04), rgb.shape)
    colors = (rgb.clip(0, 1) * 255).round().astype(np.uint8)
    return np.dstack([colors, mask.astype(np.uint8)])


def _texture(random: np.random.Generator, scales: tuple[float, float]) -> Field:
    """Return a smooth random field, (256, 256), of mean 0 and standard deviation 1."""
    noise = np.fft.rfft2(random.normal(size=(SIDE, SIDE)))
    field = np.fft.irfft2(fourier_gaussian(noise, scales, n=SIDE))
    return (field - field.mean()) / field.std()


def _share(field: Field) -> Field:
    """Map a field to [0, 1]."""
    return 1 / (1 + np.exp(-1.5 * field))


def _cell(random: np.random.Generator) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Return a random cell, an ellipse with a wavy outline: a window of the slide, and its pixels in the cell."""
    center = random.uniform(0, SIDE, 2)
    top, left = np.maximum(center - REACH, 0).astype(int)
    bottom, right = np.minimum(center + REACH + 1, SIDE).astype(int)
    y, x = np.mgrid[top:bottom, left:right] - center.reshape(2, 1, 1)
    turn = random.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    wave = np.cos(random.integers(2, 5) * np.arctan2(across, along) + random.uniform(0, 2 * np.pi))
    outline = random.uniform(6, 15) * (1 + random.uniform(0, 0.12) * wave)
    return np.s_[top:bottom, left:right], np.hypot(along / random.uniform(1.0, 1.9), across) < outline
