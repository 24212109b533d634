"""Colors predicted at a small size, applied to a large gray image."""

import math

import torch.nn.functional as F
from torch import Tensor

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net


class KeepLuma(Net):
    """Colorize a gray image at a smaller size, enlarge the chroma (bicubic), and keep the luma of the input.

    Args:
        net: The color network, which receives block means of the gray image.
        shrink: Integer factor between the sizes of the image and of the network's input.
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
        margin = net.stride * math.ceil(4 / net.stride)  # bicubic adds two pixels on each side
        self.receptive_field = None if field is None else shrink * (field + margin)

    def forward(self, gray: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 3, H, W), both in [0, 1]."""
        height, width = gray.shape[-2:]
        padded = F.pad(gray, (0, -width % self.shrink, 0, -height % self.shrink), mode="replicate")
        color = self.net(images.block_mean(padded, self.shrink))
        return images.with_luma(images.bicubic_up(color, self.shrink)[..., :height, :width], gray)
