"""Pairs of input and target from full-size images: pure functions of a batch.

Each takes full-size images (N, planes, H, W) in [0, 1] and the rows of the samples, and returns a `Pair`. The first
three planes are RGB; the functions here ignore further ones, such as masks.
"""

from torch import Tensor

from srcolor import images as im
from srcolor.images import Pair


def block_mean(images: Tensor, row: Tensor, scale: int) -> Pair:
    """Return the means of `scale` x `scale` blocks as input, as in the article, and the image as target."""
    target = images[:, :3]
    return Pair(im.block_mean(target, scale), target, row)


def bicubic(images: Tensor, row: Tensor, scale: int) -> Pair:
    """Return the antialiased bicubic reduction in 8 bits as input, as in the literature, and the image as target."""
    target = images[:, :3]
    return Pair(im.bicubic_down(target, scale), target, row)


def bicubic_luma(images: Tensor, row: Tensor, scale: int) -> Pair:
    """Return the luma of the pair `bicubic`: input (N, 1, H / scale, W / scale), target (N, 1, H, W)."""
    low_res, target, row = bicubic(images, row, scale)
    return Pair(im.luma(low_res), im.luma(target), row)


def block_mean_luma(images: Tensor, row: Tensor, scale: int) -> Pair:
    """Return the luma of the pair `block_mean`: input (N, 1, H / scale, W / scale), target (N, 1, H, W)."""
    low_res, target, row = block_mean(images, row, scale)
    return Pair(im.luma(low_res), im.luma(target), row)


def gray(images: Tensor, row: Tensor, shrink: int) -> Pair:
    """Return the image, reduced by block means, as target, and its luma, (N, 1, H / shrink, W / shrink), as input."""
    target = im.block_mean(images[:, :3], shrink)
    return Pair(im.luma(target), target, row)


def gray_block_mean(images: Tensor, row: Tensor, scale: int) -> Pair:
    """Return the luma of the means of `scale` x `scale` blocks, (N, 1, h, w), as input, and the image as target."""
    low_res, target, row = block_mean(images, row, scale)
    return Pair(im.luma(low_res), target, row)
