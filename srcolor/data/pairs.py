"""How the input of a pair is made of the full-size image: pure functions, a batch at a time.

Each takes full-size images (N, 3, H, W) in [0, 1] and the samples' rows, and answers a `Pair`.
"""

from torch import Tensor

from srcolor import images as im
from srcolor.images import Pair


def block_mean(images: Tensor, index: Tensor, scale: int) -> Pair:
    """Input: the mean of every `scale` x `scale` block, as the article's; target: the image itself."""
    return Pair(im.block_mean(images, scale), images, index)


def bicubic(images: Tensor, index: Tensor, scale: int) -> Pair:
    """Input: antialiased bicubic in 8 bits, as the literature's; target: the image itself."""
    return Pair(im.bicubic_down(images, scale), images, index)


def bicubic_luma(images: Tensor, index: Tensor, scale: int) -> Pair:
    """The luma of what `bicubic` answers: input (N, 1, H / scale, W / scale), target (N, 1, H, W)."""
    low_res, target, index = bicubic(images, index, scale)
    return Pair(im.luma(low_res), im.luma(target), index)


def gray(images: Tensor, index: Tensor, shrink: int) -> Pair:
    """Target: the image, shrunk by block means; input: its luma, (N, 1, H / shrink, W / shrink)."""
    small = im.block_mean(images, shrink)
    return Pair(im.luma(small), small, index)


def gray_block_mean(images: Tensor, index: Tensor, scale: int) -> Pair:
    """Input: the luma of the mean of every `scale` x `scale` block, (N, 1, h, w); target: the image itself."""
    return Pair(im.luma(im.block_mean(images, scale)), images, index)
