"""Pictures in files: what the sources that keep their pictures in a folder share."""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from srcolor.data.cache import Item
from srcolor.data.cells import Pixels
from srcolor.data.datamodule import ImageDataModule
from srcolor.errors import UserError, check_range


def to_rgb(picture: Image.Image) -> Image.Image:
    """Makes an 8-bit RGB picture of any that Pillow opens, as a person would see it.

    Turned as its EXIF says; of an animation the first frame; transparency on white; 16-bit gray is scaled
    to 8 bits, where Pillow's own conversion would clip it.

    Raises:
        UserError: Pixels are floating-point numbers, whose range nobody knows.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise UserError("floating-point pixels: expected 8 or 16 bits a channel. Convert the file first.")
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.float64) / 257
        picture = Image.fromarray(deep.clip(0, 255).round().astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


def stamp(path: Path | os.DirEntry[str]) -> str:
    """What changes when a file changes: its size and time. A link to nowhere is found out when it is read."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


@dataclass(kw_only=True, eq=False)
class Files(ImageDataModule):
    """Pictures in files under one folder; a subclass lists them. An item's name is its path from there.

    Args:
        root: The folder; `~` is expanded.
        crop: `center`: the largest centred square, resized with antialiasing to `size` (faces, objects).
            `random`: crops at native size (photographs), evaluated on a fixed grid of crops.
        min_side: Pictures with a shorter side are skipped; None for `size`. Less than `size` enlarges.
        max_side: With random crops, pictures with a longer side are shrunk to it; None for never.
    """

    root: str
    crop: str = "center"
    min_side: int | None = None
    max_side: int | None = None
    flips: str = "horizontal"

    def __post_init__(self) -> None:
        """Checks the arguments."""
        super().__post_init__()
        if self.crop not in ("center", "random"):
            raise UserError(f"unknown data.crop={self.crop}: expected center or random.")
        self.least = self.size if self.min_side is None else self.min_side
        check_range("data.min_side", self.least, self.size if self.crop == "random" else 1)
        if self.max_side is not None:
            check_range("data.max_side", self.max_side, self.size)
        self.folder = Path(self.root).expanduser().absolute()
        self.random_crop = self.crop == "random"

    def _reduced(self, size: tuple[int, int]) -> tuple[int, int]:
        if self.max_side is None or max(size) <= self.max_side:
            return size
        factor = self.max_side / max(size)
        return round(size[0] * factor), round(size[1] * factor)

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Reads a file, crops and resizes it.

        Raises:
            UserError: The picture is smaller than the crops.
            OSError: Pillow cannot read it.
        """
        content = (self.folder / item.name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if not content:
            raise UserError("empty file")
        try:
            opened = Image.open(io.BytesIO(content))
        except UnidentifiedImageError:
            raise UserError("no picture, whatever its name says") from None
        with opened as file:
            if min(file.size) < self.least:
                raise UserError(f"a side shorter than data.min_side={self.least}")
            if self.crop == "center":
                file.draft("RGB", (2 * self.size, 2 * self.size))  # lets JPEG decode large files at half size
            picture = to_rgb(file)
        if self.crop == "center":
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            box = (left, top, left + side, top + side)
            picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC, box)
        elif picture.size != self._reduced(picture.size):
            picture = picture.resize(self._reduced(picture.size), Image.Resampling.BICUBIC)
            if min(picture.size) < self.size:
                raise UserError(f"a side shorter than size={self.size} after data.max_side={self.max_side}")
        return np.asarray(picture), digest

    def settings(self) -> dict[str, Any]:
        """What the pixels depend on."""
        return super().settings() | {"crop": self.crop, "min_side": self.least, "max_side": self.max_side}

    def identity(self) -> str:
        """The folder."""
        return str(self.folder)
