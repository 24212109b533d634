"""The default super-resolution network: bicubic interpolation plus a learned residual."""

import torch.nn.functional as F
from torch import Tensor, nn

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net


class Block(nn.Module):
    """Residual block of EDSR without its scaling: two 3x3 convolutions with a ReLU between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x + self.conv2(F.relu(self.conv1(x)))


class Residual(Net):
    """Residual blocks at low resolution, PixelShuffle at the end, and a global bicubic skip.

    After EDSR (Lim et al. 2017, arXiv 1707.02921): no BatchNorm, and all convolutions at low resolution. The last
    layer is initialized to zero, so an untrained network is bicubic interpolation.

    Args:
        channels: Width of every layer.
        blocks: Number of residual blocks.
        scale: Upscaling factor, an integer.
    """

    inputs = 3
    outputs = 3
    stride = 1

    def __init__(self, channels: int = 24, blocks: int = 6, scale: int = 2) -> None:
        super().__init__()
        check_range("net.channels", channels, 1)
        check_range("net.blocks", blocks, 0)
        check_range("scale", scale, 1)
        self.scale = scale
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, 3 * scale**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # Conv2d has a bias by default
        self.receptive_field = 1 + 2 * (2 + 2 * blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, scale * H, scale * W), both in [0, 1]; not clamped."""
        detail = F.pixel_shuffle(self.tail(self.body(self.head(x))), self.scale)
        return images.bicubic_up(x, self.scale) + detail
