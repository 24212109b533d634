"""A person's own pictures: any tree of image files."""

import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from srcolor.data.cache import Item, Pixels
from srcolor.data.datamodule import ImageDataModule
from srcolor.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
SPLIT_FOLDERS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


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


@dataclass(kw_only=True, eq=False)
class Folder(ImageDataModule):
    """Pictures of any tree of JPEG, PNG, WebP, BMP and TIFF files.

    Split 80/10/10 by the content of each file. Where every picture lies in a folder `train`, `val` or `test`
    directly under the root, those are the splits.

    Args:
        root: The folder; `~` is expanded.
        crop: `center`: the largest centred square, resized with antialiasing to `size` (faces, objects).
            `random`: crops at native size (photographs), evaluated on a fixed grid of crops.
    """

    root: str | None
    crop: str

    def __post_init__(self) -> None:
        """Checks the arguments."""
        super().__post_init__()
        if self.crop not in ("center", "random"):
            raise UserError(f"unknown data.crop={self.crop}: expected center or random.")
        if self.root is None:
            raise UserError("data=folder needs your pictures: give data.root=/full/path, or set SRCOLOR_DATA to it.")
        self.folder = Path(self.root).expanduser().absolute()
        self.random_crop = self.crop == "random"

    def items(self) -> list[Item]:
        """Lists the image files under the root, sorted by their path; hidden ones are left out.

        Raises:
            UserError: The root is no folder, or holds no image file.
        """
        if not self.folder.is_dir():
            what = "is a file" if self.folder.exists() else "does not exist"
            raise UserError(f"data.root={self.folder} {what}: expected a folder with pictures.")
        found: list[tuple[str, os.stat_result]] = []
        for parent, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                    path = Path(parent, name)
                    found.append((path.relative_to(self.folder).as_posix(), path.stat()))
        if not found:
            raise UserError(
                f"data.root={self.folder} holds no picture: expected files ending in {', '.join(SUFFIXES)}, "
                "directly in it or in folders below."
            )
        found.sort()
        splits = [SPLIT_FOLDERS.get(name.split("/")[0].lower()) if "/" in name else None for name, _ in found]
        official = None not in splits and len(set(splits)) > 1
        return [
            Item(name, f"{stat.st_size}:{stat.st_mtime_ns}", split if official else None)
            for (name, stat), split in zip(found, splits, strict=True)
        ]

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Reads a file, crops and resizes it.

        Raises:
            UserError: The picture is smaller than the crops.
            OSError: Pillow cannot read it.
        """
        content = (self.folder / item.name).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with Image.open(io.BytesIO(content)) as file:
            if min(file.size) < self.size:
                raise UserError(f"{file.width}x{file.height}: expected sides of at least {self.size} pixels")
            if self.crop == "center":
                file.draft("RGB", (2 * self.size, 2 * self.size))  # lets JPEG decode large files at half size
            picture = to_rgb(file)
        if self.crop == "center":
            side = min(picture.size)
            left, top = (picture.width - side) // 2, (picture.height - side) // 2
            box = (left, top, left + side, top + side)
            picture = picture.resize((self.size, self.size), Image.Resampling.BICUBIC, box)
        return np.asarray(picture), digest

    def settings(self) -> dict[str, Any]:
        """What the pixels depend on."""
        return super().settings() | {"crop": self.crop}

    def identity(self) -> str:
        """The folder."""
        return str(self.folder)
