"""The grid of crops of an image, and the criteria for flat and gray crops.

Every region of an image is divided into as many size x size squares as fit, evenly spaced. Evaluation uses this grid;
training with random crops moves each square by up to half its size, inside its region.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

SPLITS = ("train", "val", "test")

Pixels = NDArray[np.uint8]

# Columns of a table of crops: the image, the corner of the grid square, the first and the last position of a random
# window, the split index (-1: the image's own split), and whether the crop `is_gray`.
IMAGE, TOP, LEFT, FIRST_TOP, LAST_TOP, FIRST_LEFT, LAST_LEFT, SPLIT, GRAY = range(9)


class Region(NamedTuple):
    """A part of an image that crops are taken from: rows top to bottom, columns left to right.

    `split` is set if the source assigns parts of one image to different splits.
    """

    top: int
    bottom: int
    left: int
    right: int
    split: str | None = None


def is_flat(crop: Pixels) -> bool:
    """Return whether a crop has no content: a standard deviation below 1/255 in each color channel.

    >>> is_flat(np.full((128, 128, 3), 7, np.uint8))
    True
    """
    # The spread of a subset of the pixels never exceeds the spread of all, and is usually sufficient.
    subset = crop[::8, ::8, :3].reshape(-1, 3).astype(np.float64)
    if (subset.var(0) * len(subset) >= crop.shape[0] * crop.shape[1]).any():
        return False
    return bool((crop[..., :3].reshape(-1, 3).std(0, dtype=np.float64) < 1.0).all())


def sample(crop: Pixels) -> Pixels:
    """Return about 256 of a crop's pixels, (n, 3): enough to classify its colors."""
    step = max(1, min(crop.shape[:2]) // 16)
    return crop[::step, ::step, :3].reshape(-1, 3)


def is_gray(samples: Pixels) -> NDArray[np.bool_]:
    """Return which crops have no colors to learn from: they are nearly gray, or toned (e.g. sepia).

    Nearly gray: 99% of the pixels have a CIELAB chroma below 10. Toned: a and b lie on one line (one hue of
    varying strength): their standard deviation from it is below 1.1.

    Args:
        samples: (N, n, 3), the `sample` of each crop.

    Returns:
        (N,).

    >>> gray, sepia = [[0, 0, 0], [90, 90, 90], [9, 9, 9]], [[0, 0, 0], [90, 80, 60], [180, 160, 120]]
    >>> flag = [[200, 0, 0], [0, 90, 0], [0, 0, 200]]
    >>> is_gray(np.array([gray, sepia, flag], np.uint8)).tolist()
    [True, True, False]
    """
    ab = rgb2lab(samples)[..., 1:]
    nearly_gray = np.quantile(np.linalg.norm(ab, axis=2), 0.99, axis=1) < 10
    ab -= ab.mean(1, keepdims=True)
    residual_variance = np.linalg.eigvalsh(ab.transpose(0, 2, 1) @ ab / ab.shape[1])[:, 0]
    return nearly_gray | (residual_variance < 1.1**2)


def crop_grid(regions: Sequence[Region], size: int) -> Iterator[tuple[int, ...]]:
    """Divide regions into crops; yield the columns of a row between `IMAGE` and `GRAY`."""
    for region in regions:
        number = -1 if region.split is None else SPLITS.index(region.split)
        for top in _spaced(region.top, region.bottom, size):
            for left in _spaced(region.left, region.right, size):
                yield (
                    top,
                    left,
                    max(region.top, top - size // 2),
                    min(region.bottom - size, top + size // 2),
                    max(region.left, left - size // 2),
                    min(region.right - size, left + size // 2),
                    number,
                )


def _spaced(first: int, last: int, size: int) -> list[int]:
    count = (last - first) // size
    if count < 2:
        return [first + (last - first - size) // 2] * count
    return [first + round(i * (last - first - size) / (count - 1)) for i in range(count)]
