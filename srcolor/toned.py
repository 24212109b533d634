"""Whether pixels have colors, or are gray or toned. Imports no torch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.color import rgb2lab


def is_gray(samples: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which samples have no colors: they are nearly gray, or toned (e.g. sepia).

    Nearly gray: 99% of the pixels have a CIELAB chroma below 10. Toned: a and b lie on one line (one hue of
    varying strength): their standard deviation from it is below 1.1.

    Args:
        samples: Pixels of N images, (N, n, 3), uint8 or uint16.

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
