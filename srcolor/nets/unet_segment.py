"""The default segmentation network: a U-Net that predicts a logit for each class."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcolor.errors import check_range
from srcolor.nets import Net
from srcolor.nets.unet import Block

BLOCK = 2  # side, in pixels, of the blocks that the network works on


class UNetSegment(Net):
    """Predict the class of each pixel; after Ronneberger et al. 2015, without normalization.

    It works on blocks of 2x2 pixels at `channels`, and at a half and a quarter of that resolution at twice the width.
    For each block the head predicts the logits of its four pixels. The head is initialized to zero, so an untrained
    network predicts equal probabilities for all classes.

    Args:
        channels: Width of the finest level; the other levels are twice as wide.
        blocks: Residual blocks per level, in the encoder and in the decoder.
        classes: Number of classes.
    """

    inputs = 3
    logits = True
    scale = 1
    stride = 4 * BLOCK

    def __init__(self, channels: int = 32, blocks: int = 1, classes: int = 2) -> None:
        super().__init__()
        check_range("net.channels", channels, 1)
        check_range("net.blocks", blocks, 0)
        check_range("net.classes", classes, 2)
        self.outputs = classes
        widths = (channels, 2 * channels, 2 * channels)
        self.stem = nn.Conv2d(3 * BLOCK**2, channels, 3, padding=1)
        self.downs = nn.ModuleList(nn.Conv2d(i, o, 3, stride=2, padding=1) for i, o in pairwise(widths))
        self.encoder = nn.ModuleList(nn.Sequential(*(Block(width) for _ in range(blocks))) for width in widths)
        self.ups = nn.ModuleList(nn.Conv2d(o, i, 1) for i, o in pairwise(widths))
        self.decoder = nn.ModuleList(nn.Sequential(*(Block(width) for _ in range(blocks))) for width in widths[:-1])
        self.head = nn.Conv2d(channels, classes * BLOCK**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]  # Conv2d has a bias by default
        # Margin in blocks of 2x2: 1 each for stem and head; 2 per residual block, times the size of its level's cells,
        # in encoder and decoder except at the coarsest level; steps down and up.
        margin = 2 + 2 * blocks * (1 + 1 + 2 + 2 + 4) + (1 + 2) + (2 + 4)
        self.receptive_field = BLOCK * (1 + 2 * margin)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to logits, (N, classes, H, W); H and W are padded to multiples of 8 inside."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        features: Tensor = self.stem(F.pixel_unshuffle(padded, BLOCK))
        features = self.encoder[0](features)
        skips = []
        for down, stage in zip(self.downs, list(self.encoder)[1:], strict=True):
            skips.append(features)
            features = stage(down(features))
        for up, stage, skip in zip(reversed(self.ups), reversed(self.decoder), reversed(skips), strict=True):
            features = stage(skip + F.interpolate(up(features), scale_factor=2, mode="bilinear"))
        return F.pixel_shuffle(self.head(torch.relu(features)), BLOCK)[..., :height, :width]
