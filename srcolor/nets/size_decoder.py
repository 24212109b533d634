"""U-Nets of the 2020 article, which add encoder features in the decoder.

`SizeDecoder`, the article's network, has one more step up than down; `UNetRGB` (`unet_rgb.py`) has as many up as down.
"""

from itertools import pairwise
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from srcolor.nets import Net


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


def _up(inputs: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.BatchNorm2d(outputs), activation
    )


class ArticleUNet(Net):
    """Four steps down, then up; a subclass defines the input channels and the widths of the last steps up.

    Activations start from [-1, 1], as in the article. Height and width are padded to multiples of 16 by repeating the
    edge, and the output is cropped.
    """

    inputs: int
    outputs = 3
    head_widths: ClassVar[tuple[int, ...]]
    stride = 16
    # Each of the deepest features depends on 31 input pixels, and neighbors are 16 pixels apart; an output pixel
    # depends on at most three adjacent ones.
    receptive_field = 31 + 2 * 16

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([_down(self.inputs, 64), _down(64, 128), _down(128, 256), _down(256, 512)])
        self.decoder = nn.ModuleList([_up(512, 256, nn.ReLU()), _up(256, 128, nn.ReLU()), _up(128, 64, nn.ReLU())])
        widths = (64, *self.head_widths)
        self.head = nn.Sequential(*(_up(i, o, nn.Tanh()) for i, o in pairwise(widths)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, 3, scale * H, scale * W), both in [0, 1]."""
        height, width = (side * self.scale for side in x.shape[-2:])
        x = F.pad(x * 2 - 1, (0, -x.shape[-1] % self.stride, 0, -x.shape[-2] % self.stride), mode="replicate")
        features = []
        for encode in self.encoder:
            x = encode(x)
            features.append(x)
        for decode, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            x = decode(x) + skip
        return (self.head(x)[..., :height, :width] + 1) / 2


class SizeDecoder(ArticleUNet):
    """The article's super-resolution network, 64x64 to 128x128: RGB to RGB of twice the size."""

    inputs = 3
    head_widths = (32, 3)
    scale = 2
