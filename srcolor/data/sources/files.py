"""Image files: the base class of sources with a folder of files."""

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from srcolor.data.crops import Pixels
from srcolor.data.datamodule import ImageDataModule
from srcolor.data.index import Item
from srcolor.errors import UserError, check_range


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any image that Pillow opens to 8-bit RGB, as a viewer would show it.

    Its EXIF orientation is applied; the first frame of an animation is used; transparency becomes white; 16-bit gray
    is scaled to 8 bits, which Pillow's own conversion would clip.

    Raises:
        UserError: If its pixels are floating-point numbers of unknown range.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise UserError("floating-point pixels: expected 8 or 16 bits per channel. Convert the file first.")
    if image.mode.startswith("I"):
        scaled = np.asarray(image).astype(np.float64) / 257
        image = Image.fromarray(scaled.clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def file_stamp(path: Path | os.DirEntry[str]) -> str:
    """Return a file's size and time, which change when it changes; a broken link is reported when it is read."""
    try:
        status = path.stat()
    except OSError:
        return ""
    return f"{status.st_size}:{status.st_mtime_ns}"


@dataclass(kw_only=True, eq=False)
class Files(ImageDataModule):
    """Image files under a folder; a subclass lists them. An item's name is its path relative to the folder.

    A subclass with masks sets `planes = 4`, and its `decode` adds `fit(mask, NEAREST)` as the fourth plane.

    Args:
        root: The folder; `~` is expanded. `Folder` also takes a list of folders.
        crop: `center`: the largest centered square, resized with antialiasing to `size` (faces, objects).
            `random`: crops at native resolution (photographs), evaluated on a fixed grid of crops.
        min_side: Images with a shorter side are skipped; if None, `size`. Images shorter than `size` are enlarged.
        max_side: With random crops, images with a longer side are shrunk to it; if None, no limit.
    """

    root: str | Sequence[str]
    crop: str = "center"
    min_side: int | None = None
    max_side: int | None = None
    flips: str = "horizontal"

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.crop not in ("center", "random"):
            raise UserError(f"unknown data.crop={self.crop}: expected center or random.")
        self.shortest_side = self.size if self.min_side is None else self.min_side
        check_range("data.min_side", self.shortest_side, self.size if self.crop == "random" else 1)
        if self.max_side is not None:
            check_range("data.max_side", self.max_side, self.size)
        roots = [self.root] if isinstance(self.root, str) else self.root
        self.folders: tuple[Path, ...] = tuple(Path(root).expanduser().absolute() for root in roots)
        self.random_crop = self.crop == "random"

    @property
    def folder(self) -> Path:
        """Return the folder of a source that has only one.

        Raises:
            UserError: If `root` lists several.
        """
        if len(self.folders) != 1:
            raise UserError(
                f"data.root lists {len(self.folders)} folders: expected one. Only data=folder and data=photographs "
                "take several."
            )
        return self.folders[0]

    def path(self, name: str) -> Path:
        """Return the file of an item."""
        return self.folder / name

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Read a file, crop and resize it.

        Raises:
            UserError: If the image is smaller than the crops.
            OSError: If Pillow cannot read it.
        """
        content = self.path(item.name).read_bytes()
        if not content:
            raise UserError("empty file")
        try:
            opened = Image.open(io.BytesIO(content))
        except UnidentifiedImageError:
            raise UserError("not a readable image") from None
        with opened as file:
            if min(file.size) < self.shortest_side:
                raise UserError(f"shorter side is below data.min_side={self.shortest_side}")
            if self.crop == "center":
                file.draft("RGB", (2 * self.size, 2 * self.size))  # lets JPEG decode large files at half size
            image = to_rgb(file)
        return self.fit(image), hashlib.sha256(content).hexdigest()

    def fit(self, image: Image.Image, resampling: Image.Resampling = Image.Resampling.BICUBIC) -> Pixels:
        """Crop and resize an image, or a mask of it, as `crop` and `max_side` require.

        Raises:
            UserError: If a side is shorter than the crops after `max_side`.
        """
        if self.crop == "center":
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.resize((self.size, self.size), resampling, (left, top, left + side, top + side))
        elif self.max_side is not None and max(image.size) > self.max_side:
            factor = self.max_side / max(image.size)
            image = image.resize((round(image.width * factor), round(image.height * factor)), resampling)
            if min(image.size) < self.size:
                raise UserError(
                    f"shorter side is below size={self.size} after shrinking to data.max_side={self.max_side}"
                )
        return np.asarray(image)

    def settings(self) -> dict[str, Any]:
        """See `Source`."""
        return super().settings() | {"crop": self.crop, "min_side": self.shortest_side, "max_side": self.max_side}

    def identity(self) -> str:
        """Return the folder."""
        return str(self.folder)
