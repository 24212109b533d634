"""Colours of a small image on a large one that is gray."""

import math

import torch.nn.functional as F
from torch import Tensor

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net


class KeepLuma(Net):
    """Colours a gray image at a smaller size, enlarges the chroma, and keeps the luma that was given.

    Args:
        net: The colour network; sees the block means of the gray image.
        shrink: Whole factor between the size of the image and the size that the network sees.
    """

    inputs = 1
    outputs = 3
    scale = 1

    def __init__(self, net: Net, shrink: int = 2) -> None:
        super().__init__()
        check_range("net.shrink", shrink, 1)
        self.net = net
        self.shrink = shrink
        self.stride = net.stride * shrink
        field = net.receptive_field
        beside = net.stride * math.ceil(4 / net.stride)  # bicubic takes two pixels more, on each side
        self.receptive_field = None if field is None else shrink * (field + beside)

    def forward(self, gray: Tensor) -> Tensor:
        """Maps (N, 1, H, W) to (N, 3, H, W), both in [0, 1]."""
        height, width = gray.shape[-2:]
        padded = F.pad(gray, (0, -width % self.shrink, 0, -height % self.shrink), mode="replicate")
        colour = self.net(images.block_mean(padded, self.shrink))
        return images.with_luma(images.bicubic_up(colour, self.shrink)[..., :height, :width], gray)
