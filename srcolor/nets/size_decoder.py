"""The super-resolution network of the 2020 article: a U-Net that ends one step higher than it began."""

import torch.nn.functional as F
from torch import Tensor, nn


def _down(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


def _up(inputs: int, outputs: int, activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1), nn.BatchNorm2d(outputs), activation
    )


class SizeDecoder(nn.Module):
    """SizeDecoder: four steps down, five up, encoder features added on the way; 64x64 to 128x128.

    It works on [-1, 1] inside, as the article does. Sides that 16 does not divide are padded by
    repeating the edge, and the result is cropped.
    """

    scale = 2
    stride = 16
    # Down to 31 input pixels for one of the deepest features, which are 16 apart; up, every output pixel
    # depends on at most three of them side by side.
    receptive_field = 31 + 2 * 16

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList([_down(3, 64), _down(64, 128), _down(128, 256), _down(256, 512)])
        self.decoder = nn.ModuleList([_up(512, 256, nn.ReLU()), _up(256, 128, nn.ReLU()), _up(128, 64, nn.ReLU())])
        self.head = nn.Sequential(_up(64, 32, nn.Tanh()), _up(32, 3, nn.Tanh()))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) to (N, 3, 2 H, 2 W), both in [0, 1]."""
        height, width = x.shape[-2:]
        x = F.pad(x * 2 - 1, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        features = []
        for encode in self.encoder:
            x = encode(x)
            features.append(x)
        for decode, skip in zip(self.decoder, reversed(features[:-1]), strict=True):
            x = decode(x) + skip
        return (self.head(x)[..., : 2 * height, : 2 * width] + 1) / 2
