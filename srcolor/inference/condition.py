"""The condition of a photograph: noise, JPEG blocks and contrast; and a stretch of the contrast. Imports no torch."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from srcolor.inference.image_files import Picture
from srcolor.inference.tiles import Pixels

SIDE = 1024  # of the part in the middle that noise and JPEG blocks are estimated on
REDUCED = 256  # longer side of the reduced image that contrast is measured on
BLOCK = 32  # side of the blocks of the noise estimate
QUIETEST = 20  # percentile of the blocks that counts: other blocks have texture
LUMA = np.array([0.299, 0.587, 0.114])
NOISY = 2.5  # standard deviation, in levels of 255; grain becomes visible
BLOCKY = 0.6  # levels of 255; about JPEG quality 80
FADED = 0.8  # of the full range
TAILS = (0.5, 99.5)  # percentiles of the luma between which the range is measured
STRIP = 2**20  # number of pixels that are stretched together


class Condition(NamedTuple):
    """The condition of a photograph.

    Attributes:
        noise: Estimated standard deviation of the noise, in levels of 255.
        blocks: Additional step at the borders of 8x8 blocks, in levels of 255; see `blockiness`.
        low: The luma of the darkest pixels, in levels of 255; see `TAILS`.
        high: The luma of the brightest pixels.
    """

    noise: float
    blocks: float
    low: float
    high: float

    @property
    def is_worn(self) -> bool:
        """Whether the photograph has visible noise or JPEG blocks."""
        return self.noise > NOISY or self.blocks > BLOCKY

    @property
    def is_faded(self) -> bool:
        """Whether the photograph has little contrast; an image of a single level does not count."""
        return 1 < self.high - self.low < FADED * 255


def examine(picture: Picture) -> Condition:
    """Return the condition of a photograph.

    Raises:
        UserError: If it cannot be decoded.
    """
    height, width, _ = picture.shape
    top, left = (max(0, side - SIDE) // 16 * 8 for side in (height, width))  # on the grid of JPEG blocks
    levels = np.iinfo(picture.dtype).max / 255
    middle = picture[top : top + SIDE, left : left + SIDE] @ LUMA / levels
    small = picture.reduced(REDUCED / max(height, width)) @ LUMA / levels
    low, high = np.percentile(small, TAILS)
    return Condition(noise(middle), blockiness(middle), float(low), float(high))


def noise(luma: NDArray[np.float64]) -> float:
    """Estimate the standard deviation of white noise.

    In each block, it is that of the diagonal details of the Haar wavelet, which are mostly noise in smooth blocks
    (Donoho and Johnstone 1994 use their median over the image). Texture counts as noise only if it is everywhere.

    Args:
        luma: (H, W), in levels of 255.

    Returns:
        The value of the quietest blocks; 0 if the image is smaller than a block.
    """
    height, width = (side // BLOCK * BLOCK for side in luma.shape)
    if 0 in (height, width):
        return 0.0
    even, odd = luma[:height:2, :width], luma[1:height:2, :width]
    diagonal = (even[:, ::2] - even[:, 1::2] - odd[:, ::2] + odd[:, 1::2]) / 2
    half = BLOCK // 2
    blocks = diagonal.reshape(height // BLOCK, half, width // BLOCK, half)
    deviations = np.sqrt(np.pi / 2) * np.abs(blocks).mean((1, 3))  # of Gaussian noise
    means = luma[:height, :width].reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK).mean((1, 3))
    exposed = (means > 10) & (means < 245)  # noise is clipped in black and white
    return float(np.percentile(deviations[exposed] if exposed.any() else deviations, QUIETEST))


def blockiness(luma: NDArray[np.float64]) -> float:
    """Estimate JPEG blocks: how much more the luma steps between columns 7 and 8 of a block than elsewhere.

    A step is the absolute difference of two neighbors, less the mean of the steps before and after it.

    Args:
        luma: (H, W), in levels of 255; its first pixel is the corner of a block.

    Returns:
        The mean of both directions, about 0 without compression, 2.5 for quality 50; 0 if the image is too small.
    """
    if min(luma.shape) < 2 * 8:
        return 0.0
    values = []
    for image in (luma, luma.T):
        steps = np.abs(np.diff(image, axis=1))
        excess = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
        border = np.arange(1, steps.shape[1] - 1) % 8 == 7
        values.append(excess[:, border].mean() - excess[:, ~border].mean())
    return float(np.mean(values))


def stretch(pixels: Pixels, low: float, high: float, out: NDArray[Any]) -> NDArray[Any]:
    """Stretch the contrast linearly, all channels alike.

    Args:
        pixels: The image.
        low: Level of 255 that becomes black.
        high: Level of 255 that becomes white.
        out: Array for the result, of the same shape and type.
    """
    largest = np.iinfo(pixels.dtype).max
    levels = (np.arange(largest + 1) * (255 / largest) - low) / (high - low)
    table = np.rint(np.clip(levels, 0, 1) * largest).astype(pixels.dtype)
    height, width, _ = pixels.shape
    strip = max(1, STRIP // width)
    for top in range(0, height, strip):
        out[top : top + strip] = table[pixels[top : top + strip, 0:width]]
    return out
