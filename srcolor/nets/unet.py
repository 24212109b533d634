"""The default colorization network: a U-Net that predicts chroma and keeps the luma of its input."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net

BLOCK = 4  # side, in pixels, of the blocks that the U-Net works on
GAIN = 10.0  # divisor of the head before tanh, so that an optimizer step changes a* and b* little
LIMIT = 110.0  # bound of |a*| and |b*| in sRGB


class Block(nn.Module):
    """Residual block, twice ReLU and a 3x3 convolution; initialized to the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = _zero(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, channels, H, W) to the same shape."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class UNet(Net):
    """Predict a* and b* of CIELAB and keep the luma; after Ronneberger et al. 2015, without normalization.

    It works on blocks of 4x4 pixels at `channels`, and at a half and a quarter of that resolution at twice the width.
    For each block the head predicts a* and b* as functions of luma: their values at `levels` levels, between which the
    luma of each pixel interpolates. Colors follow the edges of the gray image at no cost (the bilateral grid of Chen
    et al. 2007, predicted as in HDRNet, Gharbi et al. 2017). tanh bounds a* and b* to 110. The last layer is
    initialized to zero, so an untrained network outputs gray.

    Args:
        channels: Width of the finest level; the other levels are twice as wide.
        blocks: Residual blocks per level, in the encoder and in the decoder.
        levels: Number of luma levels.
    """

    inputs = 1
    outputs = 3
    scale = 1
    stride = 4 * BLOCK

    def __init__(self, channels: int = 64, blocks: int = 1, levels: int = 8) -> None:
        super().__init__()
        check_range("net.channels", channels, 1)
        check_range("net.blocks", blocks, 0)
        check_range("net.levels", levels, 2)
        self.levels = levels
        widths = (channels, 2 * channels, 2 * channels)
        self.stem = nn.Conv2d(BLOCK**2, channels, 3, padding=1)
        self.downs = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(widths))
        self.encoder = nn.ModuleList(_stage(width, blocks) for width in widths)
        self.ups = nn.ModuleList(nn.Conv2d(o, i, 1) for i, o in pairwise(widths))
        self.decoder = nn.ModuleList(_stage(width, blocks) for width in widths[:-1])
        self.head = _zero(nn.Conv2d(channels, 2 * levels, 3, padding=1))
        # Margin in blocks of 4x4: 1 each for stem and head; 2 per residual block, times the size of its level's cells,
        # in encoder and decoder except at the coarsest level; steps down and up; the last interpolation.
        margin = 2 + 2 * blocks * (1 + 1 + 2 + 2 + 4) + (1 + 2) + (2 + 4) + 1
        self.receptive_field = BLOCK * (1 + 2 * margin)

    def forward(self, gray: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 3, H, W), both in [0, 1]; H and W are padded to multiples of 16 inside."""
        return images.from_ab(gray, self.decode(gray, *self.encode(gray)))

    def encode(self, gray: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the features of the coarsest level, (N, 2 * channels, H / 16, W / 16), and of the levels above it.

        Args:
            gray: (N, 1, H, W) in [0, 1].
        """
        height, width = gray.shape[-2:]
        padded = F.pad(gray, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        x = self.encoder[0](self.stem(F.pixel_unshuffle(padded, BLOCK)))
        skips = []
        for down, stage in zip(self.downs, list(self.encoder)[1:], strict=True):
            skips.append(x)
            x = stage(down(x))
        return x, skips

    def decode(self, gray: Tensor, coarsest: Tensor, skips: list[Tensor]) -> Tensor:
        """Return a* and b*, (N, 2, H, W), from the image and its features; see `encode`."""
        x = coarsest
        for up, stage, skip in zip(reversed(self.ups), reversed(self.decoder), reversed(skips), strict=True):
            x = stage(skip + F.interpolate(up(x), scale_factor=2, mode="bilinear"))
        height, width = gray.shape[-2:]
        curves = F.interpolate(self.head(F.relu(x)), scale_factor=BLOCK, mode="bilinear")[..., :height, :width]
        with torch.autocast(gray.device.type, enabled=False):
            gray = gray.float()
            level = torch.arange(self.levels, device=gray.device).reshape(-1, 1, 1)
            weight = (1 - (gray * (self.levels - 1) - level).abs()).clamp(min=0)
            ab = (curves.float().unflatten(1, (2, self.levels)) * weight[:, None]).sum(2)
            return LIMIT * torch.tanh(ab / GAIN)


def _stage(channels: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(Block(channels) for _ in range(blocks)))


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv
