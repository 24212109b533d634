"""Pairs of an image and the areas of its classes, from images with a mask as the fourth plane."""

import torch
from torch import Tensor

from srcolor import images as im
from srcolor.errors import UserError
from srcolor.images import Pair

IGNORED = 255  # class number that sources give to pixels that neither training nor evaluation counts


def segment(images: Tensor, row: Tensor, shrink: int, classes: int) -> Pair:
    """Return the image, reduced by block means, as input, and the area of each class in each block as target.

    The areas of a block sum to 1, or to less where pixels are ignored. Ignored pixels, of class number 255, have area
    0 in every class. A target of areas keeps more detail at boundaries than one class per block.

    Args:
        images: (N, 4, H, W) in [0, 1]: RGB, and the class number of each pixel divided by 255.
        row: Rows of the samples.
        shrink: Side of a block in pixels.
        classes: Number of classes.

    Returns:
        Input (N, 3, H / shrink, W / shrink) and target (N, classes, H / shrink, W / shrink), both in [0, 1].

    Raises:
        UserError: If the images have no mask, or a side is not a multiple of `shrink`.
    """
    if images.shape[1] != 4:
        raise UserError(
            "the data set has no masks: expected one for segmentation. Set data=blobs, data=oxford_pets_trimap, or "
            "data=masks data.root=<folder>."
        )
    numbers = (images[:, 3:] * 255).round()
    one_hot = (numbers == torch.arange(classes, device=images.device).reshape(-1, 1, 1)).to(images.dtype)
    return Pair(im.block_mean(images[:, :3], shrink), im.block_mean(one_hot, shrink), row)
