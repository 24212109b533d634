"""Bicubic interpolation as a network: the baseline of super-resolution."""

from torch import Tensor

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net


class Bicubic(Net):
    """Bicubic interpolation (a = -0.5), without parameters.

    Args:
        scale: Upscaling factor, an integer.
    """

    inputs = None
    outputs = None
    stride = 1
    receptive_field = 5

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        check_range("scale", scale, 1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, scale * H, scale * W), both in [0, 1]."""
        return images.bicubic_up(x, self.scale).clamp(0, 1)
