"""A restoration network for gray images: residual blocks at half the resolution."""

import torch.nn.functional as F
from torch import Tensor, nn

from srcolor.errors import check_range
from srcolor.nets import Net
from srcolor.nets.residual import Block


class HalfResidual(Net):
    """PixelUnshuffle, residual blocks, PixelShuffle, and a global skip; the size does not change.

    All convolutions are at half the resolution, for a quarter of the cost and twice the receptive field. The last layer
    is initialized to zero, so an untrained network returns its input.

    Args:
        channels: Width of every layer.
        blocks: Number of residual blocks.
    """

    inputs = 1
    outputs = 1
    stride = 2
    scale = 1

    def __init__(self, channels: int = 48, blocks: int = 8) -> None:
        super().__init__()
        check_range("net.channels", channels, 1)
        check_range("net.blocks", blocks, 0)
        self.head = nn.Conv2d(4, channels, 3, padding=1)
        self.body = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.tail = nn.Conv2d(channels, 4, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]  # Conv2d has a bias by default
        self.receptive_field = 2 * (1 + 2 * (2 + 2 * blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, H, W) to the same shape, both in [0, 1]; not clamped. Odd sides are padded inside."""
        height, width = x.shape[-2:]
        padded = F.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        detail = self.tail(self.body(self.head(F.pixel_unshuffle(padded, 2))))
        return x + F.pixel_shuffle(detail, 2)[..., :height, :width]
