"""A color network with stronger colors: what an adversarial color network must beat."""

from torch import Tensor

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net


class Saturated(Net):
    """Multiply the chroma of a color network, and keep the luma of its input.

    Args:
        net: A network from gray to RGB of the same size.
        factor: Factor on the chroma.
    """

    inputs, outputs, scale = 1, 3, 1

    def __init__(self, net: Net, factor: float) -> None:
        super().__init__()
        check_range("factor", factor, 0)
        self.net, self.factor = net, factor
        self.stride, self.receptive_field = net.stride, net.receptive_field

    def forward(self, gray: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 3, H, W), both in [0, 1]."""
        color = self.net(gray).clamp(0, 1)
        return images.with_luma(gray + self.factor * (color - images.luma(color)), gray)
