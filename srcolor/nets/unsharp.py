"""Unsharp masking of a network's output: what an adversarial network must beat."""

import torch
from torch import Tensor
from torch.nn import functional as F

from srcolor.errors import check_range
from srcolor.nets import Net


class Unsharp(Net):
    """Sharpen the output of a network as image editors do: add its difference from a Gaussian blur.

    Args:
        net: The network.
        strength: Factor on the difference.
        sigma: Standard deviation of the Gaussian in output pixels; the kernel is truncated at three sigma.
    """

    kernel: Tensor

    def __init__(self, net: Net, strength: float, sigma: float = 1.0) -> None:
        super().__init__()
        check_range("strength", strength, 0)
        check_range("sigma", sigma, 0.1)
        self.net, self.strength = net, strength
        self.inputs, self.outputs, self.scale, self.stride = net.inputs, net.outputs, net.scale, net.stride
        radius = round(3 * sigma)
        kernel = torch.exp(-(torch.arange(-radius, radius + 1.0) ** 2) / (2 * sigma**2))
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)
        field = net.receptive_field
        self.receptive_field = None if field is None else field + 2 * -(-radius // net.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, scale * H, scale * W), both in [0, 1]; not clamped."""
        image = self.net(x)
        radius = len(self.kernel) // 2
        padded = F.pad(image, (radius,) * 4, mode="replicate").flatten(0, 1).unsqueeze(1)
        blurred = F.conv2d(F.conv2d(padded, self.kernel.view(1, 1, -1, 1)), self.kernel.view(1, 1, 1, -1))
        return image + self.strength * (image - blurred.view_as(image))
