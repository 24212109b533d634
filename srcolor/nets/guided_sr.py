"""Segmentation at a small size, refined by the large image."""

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net
from srcolor.nets.residual import Block
from srcolor.nets.up_logits import check_segments, enlarged, padded


class GuidedSR(Net):
    """Segment the reduced image with a trained network, enlarge its logits, and add a correction from the large image.

    The correction is computed from the large image, rearranged to the small size, and the logits by residual blocks.
    Their output, rearranged to the large size, is added to the bicubic enlargement of the logits. The last layer is
    initialized to zero, so an untrained network equals `UpLogits` with `shrink`. The trained network is frozen, and
    stays in evaluation mode.

    Args:
        net: The segmentation network of the small size.
        scale: Integer factor between the small and the large size.
        channels: Width of every layer.
        blocks: Number of residual blocks.

    Raises:
        UserError: If the network returns no logits.
    """

    inputs = 3
    logits = True
    scale = 1

    def __init__(self, net: Net, scale: int, channels: int = 24, blocks: int = 6) -> None:
        super().__init__()
        check_range("net.scale", scale, 1)
        check_range("net.channels", channels, 1)
        check_range("net.blocks", blocks, 0)
        check_segments(net)
        assert net.outputs is not None
        self.net = net.eval().requires_grad_(False)
        self.factor = scale
        self.outputs = net.outputs
        self.head = nn.Conv2d(3 * scale**2 + net.outputs, channels, 3, padding=1)
        self.body = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, net.outputs * scale**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # Conv2d has a bias by default
        self.stride = scale * net.stride
        # In pixels of the small size, the layers here see 2 + 2 * blocks more on each side, the enlargement 2.
        field = net.receptive_field
        self.receptive_field = None if field is None else scale * (field + 2 * (2 + 2 * blocks))

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers except those of the trained network."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to logits, (N, classes, H, W); H and W are padded to multiples of the factor."""
        height, width = x.shape[-2:]
        x = padded(x, self.factor)
        logits = self.net(images.block_mean(x, self.factor))
        features = torch.cat([F.pixel_unshuffle(x, self.factor), logits], 1)
        detail = F.pixel_shuffle(self.tail(self.body(self.head(features))), self.factor)
        return (enlarged(logits, x, self.factor) + detail)[..., :height, :width]
