"""The photographs that the scikit-image package carries: enough to train on without a download."""

import hashlib
import importlib.metadata
from dataclasses import dataclass
from typing import Any

import numpy as np
from skimage import data

from srcolor.data.cache import Item
from srcolor.data.cells import Pixels, Region
from srcolor.data.datamodule import ImageDataModule
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
    """Loads one of the nine photographs, height x width x 3."""
    if name.startswith("motorcycle"):
        left, right, _disparity = data.stereo_motorcycle()
        return left if name == "motorcycle_left" else right
    return getattr(data, name)()


@dataclass(kw_only=True, eq=False)
class Photos(ImageDataModule):
    """Random crops at native size of scikit-image's photographs.

    Args:
        holdout: `photo`: train on seven photographs, validate on the cat (`chelsea`), test on the astronaut.
            `region`: every photograph is in all three splits, by strips across its longer side, a
            gap apart; for colour, where an unseen photograph cannot be guessed from seven others.
    """

    holdout: str = "photo"

    random_crop = True

    def __post_init__(self) -> None:
        """Checks the arguments."""
        super().__post_init__()
        if self.holdout not in ("photo", "region"):
            raise UserError(f"unknown data.holdout={self.holdout}: expected photo or region.")

    def items(self) -> list[Item]:
        """The nine photographs; the version of scikit-image stands for their content."""
        by_photo = self.holdout == "photo"
        version = importlib.metadata.version("scikit-image")
        return [Item(name, version, split if by_photo else None) for name, split in SPLIT.items()]

    def decode(self, item: Item) -> tuple[Pixels, str]:
        """Loads a photograph."""
        pixels = np.ascontiguousarray(load(item.name))
        return pixels, hashlib.sha256(pixels.data).hexdigest()

    def regions(self, height: int, width: int) -> list[Region]:
        """The whole photograph, or three strips of it."""
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
        """What the crops depend on."""
        return super().settings() | {"holdout": self.holdout}

    def identity(self) -> str:
        """One cache for all users of the photographs."""
        return "skimage.data"
