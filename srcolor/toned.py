"""Whether a photograph is a toned print, such as sepia. Imports no torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab

LEVELS = 16  # of lightness
SPREAD = 2.6  # CIELAB units; old prints have 0.2 to 2.4, of 106 photographs in color all but one more than 2.8


def is_toned(pixels: NDArray[Any]) -> bool:
    """Return whether the color of pixels depends on their lightness alone, as in a gray or toned print.

    That is, the standard deviation of a* and b* from their means at equal lightness is below `SPREAD`.

    Args:
        pixels: Of one image, (n, 3), uint8 or uint16.

    >>> sepia = np.arange(0, 250, 10)[:, None] * [1, 0.9, 0.7]
    >>> is_toned(sepia.astype(np.uint8)), is_toned(sepia[:, ::-1].astype(np.uint8))
    (True, True)
    >>> is_toned(np.concatenate([sepia, sepia[:, ::-1]]).astype(np.uint8))
    False
    """
    lab = rgb2lab(pixels)
    ab, level = lab[:, 1:], np.clip(lab[:, 0] / 100 * LEVELS, 0, LEVELS - 1).astype(int)
    counts = np.maximum(np.bincount(level, minlength=LEVELS), 1)
    means = np.stack([np.bincount(level, weights, LEVELS) / counts for weights in ab.T], 1)
    return bool(np.sqrt(np.square(ab - means[level]).sum(1).mean()) < SPREAD)
