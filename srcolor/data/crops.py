"""Cells: the crops that a picture is divided into.

Every region of a picture is divided into as many size x size squares as fit, spread evenly. Evaluation takes
the cells; training with random crops moves each by up to half its size, inside its region.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

SPLITS = ("train", "val", "test")

Pixels = NDArray[np.uint8]

# Columns of a row of cells: the picture, the cell's corner, the first and the last position that a random
# window may take, the split's number (-1: the picture's own), and whether it `is_gray`.
IMAGE, TOP, LEFT, FIRST_TOP, LAST_TOP, FIRST_LEFT, LAST_LEFT, SPLIT, GRAY = range(9)


class Region(NamedTuple):
    """A part of a picture that crops are taken from: rows top to bottom, columns left to right.

    `split` is set where a source gives the parts of one picture to different splits.
    """

    top: int
    bottom: int
    left: int
    right: int
    split: str | None = None


def is_flat(crop: Pixels) -> bool:
    """Says whether a crop has no content: in every channel a standard deviation below 1/255.

    >>> is_flat(np.full((128, 128, 3), 7, np.uint8))
    True
    """
    # The spread of a sample of the pixels is never more than the spread of all: mostly it settles it.
    sample = crop[::8, ::8].reshape(-1, 3).astype(np.float64)
    if (sample.var(0) * len(sample) >= crop.shape[0] * crop.shape[1]).any():
        return False
    return bool((crop.reshape(-1, 3).std(0, dtype=np.float64) < 1.0).all())


def sample(crop: Pixels) -> Pixels:
    """Answers some 256 of a crop's pixels, (n, 3): enough to judge its colours by."""
    step = max(1, min(crop.shape[:2]) // 16)
    return crop[::step, ::step].reshape(-1, 3)


def is_gray(samples: Pixels) -> NDArray[np.bool_]:
    """Says which crops have no colours to learn from: they are nearly gray, or toned (sepia, say).

    Nearly gray: 99 % of the pixels have a CIELAB chroma below 10. Toned: a and b lie on one line (one hue,
    stronger or weaker): their standard deviation from it is below 1.1.

    Args:
        samples: (N, n, 3): what `sample` answers of each crop.

    Returns:
        (N,).

    >>> gray, sepia = [[0, 0, 0], [90, 90, 90], [9, 9, 9]], [[0, 0, 0], [90, 80, 60], [180, 160, 120]]
    >>> flag = [[200, 0, 0], [0, 90, 0], [0, 0, 200]]
    >>> is_gray(np.array([gray, sepia, flag], np.uint8)).tolist()
    [True, True, False]
    """
    colour = rgb2lab(samples)[..., 1:]
    nearly = np.quantile(np.linalg.norm(colour, axis=2), 0.99, axis=1) < 10
    colour -= colour.mean(1, keepdims=True)
    across = np.linalg.eigvalsh(colour.transpose(0, 2, 1) @ colour / colour.shape[1])[:, 0]
    return nearly | (across < 1.1**2)


def cells_of(regions: Sequence[Region], size: int) -> Iterator[tuple[int, ...]]:
    """Divides regions into cells; yields the columns of a row between `IMAGE` and `GRAY`."""
    for region in regions:
        number = -1 if region.split is None else SPLITS.index(region.split)
        for top in _spread(region.top, region.bottom, size):
            for left in _spread(region.left, region.right, size):
                yield (
                    top,
                    left,
                    max(region.top, top - size // 2),
                    min(region.bottom - size, top + size // 2),
                    max(region.left, left - size // 2),
                    min(region.right - size, left + size // 2),
                    number,
                )


def _spread(first: int, last: int, size: int) -> list[int]:
    count = (last - first) // size
    if count < 2:
        return [first + (last - first - size) // 2] * count
    return [first + round(i * (last - first - size) / (count - 1)) for i in range(count)]
