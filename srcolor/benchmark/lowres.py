"""The low resolution of the standard benchmark protocol, bit-exact: MATLAB's `imresize` on bytes."""

import numpy as np
from numpy.typing import NDArray

from srcolor.data.crops import Pixels


def imresize(pixels: Pixels, scale: int) -> Pixels:
    """Shrink an image as MATLAB's `imresize(image, 1 / scale, 'bicubic')` does.

    Cubic kernel with a = -0.5, stretched by `scale` against aliasing; first along the columns, rounded to bytes, then
    along the rows, rounded to bytes; the border pixel is repeated beyond the border. This reproduces the low-resolution
    images distributed with Set5 and B100, bit by bit. (`images.bicubic_down`, for training, differs in the outer two
    pixels, and rounds once.)

    Args:
        pixels: (H, W, C), H and W multiples of `scale`.
        scale: Integer factor.

    Returns:
        (H / scale, W / scale, C).
    """
    rows = _round(np.tensordot(_weights(pixels.shape[0], scale), pixels.astype(np.float64), (1, 0)))
    columns = np.tensordot(_weights(pixels.shape[1], scale), rows, (1, 1))  # the columns come first
    return _round(columns).astype(np.uint8).swapaxes(0, 1)


def _round(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.floor(values.clip(0, 255) + 0.5)


def _weights(length: int, scale: int) -> NDArray[np.float64]:
    """Return the weight of each of `length` pixels in each of the `length / scale` results, one row per result."""
    centers = (np.arange(length // scale) + 0.5) * scale - 0.5
    taps = np.floor(centers)[:, None] + np.arange(-2 * scale, 2 * scale + 1)
    weights = _cubic((centers[:, None] - taps) / scale)
    weights /= weights.sum(1, keepdims=True)
    table = np.zeros((len(centers), length))
    np.add.at(table, (np.arange(len(centers))[:, None], taps.clip(0, length - 1).astype(int)), weights)
    return table


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))
