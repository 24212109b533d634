"""Bicubic interpolation as a network: the baseline that every other one must beat."""

from torch import Tensor

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net


class Bicubic(Net):
    """Enlarges by bicubic interpolation (a = -0.5); has no parameters.

    Args:
        scale: Whole factor.
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
        """Maps (N, C, H, W) to (N, C, scale * H, scale * W), both in [0, 1]."""
        return images.bicubic_up(x, self.scale).clamp(0, 1)
