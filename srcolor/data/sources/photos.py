"""The photographs bundled with scikit-image: enough to train on without a download."""

import hashlib
import importlib.metadata
from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage import data

from srcolor.data.crops import Pixels, Region
from srcolor.data.datamodule import ImageDataModule
from srcolor.data.index import Item
from srcolor.errors import UserError

SPLIT = {
    "coffee": "train",
    "motorcycle_left": "train",
    "motorcycle_right": "train",
    "rocket": "train",
    "hubble_deep_field": "train",
    "immunohistochemistry": "train",
    "retina": "train",
    "chelsea": "val",
    "astronaut": "test",
}


def load(name: str) -> Pixels:
    """Load one of the nine photographs, height x width x 3."""
    if name.startswith("motorcycle"):
        left, right, _disparity = data.stereo_motorcycle()
        return left if name == "motorcycle_left" else right
    return getattr(data, name)()


@dataclass(kw_only=True, eq=False)
class Photos(ImageDataModule):
    """Random crops of scikit-image's photographs, at native resolution.

    Args:
        holdout: `photo`: train on seven photographs, validate on the cat (`chelsea`), test on the astronaut.
            `region`: every photograph is in all three splits, by strips across its longer side with a gap between
            them; for color, where seven photographs are not enough to predict an unseen one.
    """

    holdout: str = "photo"

    random_crop = True

    def __post_init__(self) -> None:
        """Check the arguments."""
        super().__post_init__()
        if self.holdout not in ("photo", "region"):
            raise UserError(f"unknown data.holdout={self.holdout}: expected photo or region.")

    def items(self) -> list[Item]:
        """Return the nine photographs, stamped with the version of scikit-image."""
        by_photo = self.holdout == "photo"
        version = importlib.metadata.version("scikit-image")
        return [Item(name, version, split if by_photo else None) for name, split in SPLIT.items()]

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Load a photograph."""
        pixels = np.ascontiguousarray(load(item.name))
        return pixels, hashlib.sha256(pixels.data).hexdigest()

    def regions(self, height: int, width: int) -> list[Region]:
        """Return the whole photograph, or three strips of it."""
        if self.holdout == "photo":
            return super().regions(height, width)
        length = max(height, width)
        strip, gap = max(self.size, length // 6), self.size // 8
        ends = {"test": length, "val": length - strip - gap, "train": length - 2 * (strip + gap)}
        starts = {"test": length - strip, "val": length - 2 * strip - gap, "train": 0}
        usable = [split for split in ends if starts[split] >= 0 and ends[split] - starts[split] >= self.size]
        if width >= height:
            return [Region(0, height, starts[split], ends[split], split) for split in usable]
        return [Region(starts[split], ends[split], 0, width, split) for split in usable]

    def settings(self) -> dict[str, Any]:
        """See `Source`."""
        return super().settings() | {"holdout": self.holdout}

    def identity(self) -> str:
        """Return the name of the package."""
        return "skimage.data"
