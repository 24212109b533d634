"""Pairs from full-size images: pure functions of a batch.

Each takes full-size images (N, planes, H, W) in [0, 1] and the rows of the samples, and returns a `Pair`. The first
three planes are RGB; the functions here ignore further ones, such as masks.
"""

from torch import Tensor

from srcolor import images as im
from srcolor.images import Pair


def block_mean(images: Tensor, row: Tensor, scale: int) -> Pair:
    """Input: the mean of every `scale` x `scale` block, as in the article; target: the image itself."""
    target = images[:, :3]
    return Pair(im.block_mean(target, scale), target, row)


def bicubic(images: Tensor, row: Tensor, scale: int) -> Pair:
    """Input: antialiased bicubic in 8 bits, as in the literature; target: the image itself."""
    target = images[:, :3]
    return Pair(im.bicubic_down(target, scale), target, row)


def bicubic_luma(images: Tensor, row: Tensor, scale: int) -> Pair:
    """The luma of the pair `bicubic`: input (N, 1, H / scale, W / scale), target (N, 1, H, W)."""
    low_res, target, row = bicubic(images, row, scale)
    return Pair(im.luma(low_res), im.luma(target), row)


def gray(images: Tensor, row: Tensor, shrink: int) -> Pair:
    """Target: the image, shrunk by block means; input: its luma, (N, 1, H / shrink, W / shrink)."""
    target = im.block_mean(images[:, :3], shrink)
    return Pair(im.luma(target), target, row)


def gray_block_mean(images: Tensor, row: Tensor, scale: int) -> Pair:
    """Input: the luma of the mean of every `scale` x `scale` block, (N, 1, h, w); target: the image itself."""
    low_res, target, row = block_mean(images, row, scale)
    return Pair(im.luma(low_res), target, row)
