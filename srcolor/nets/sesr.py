"""A luma network with collapsible linear re-parameterization: trained wide, applied narrow."""

from typing import ClassVar, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcolor import images
from srcolor.errors import check_range
from srcolor.nets import Net


class Collapsed(nn.Module):
    """A 3x3 convolution, trained as a 3x3 convolution to `width` channels, a 1x1 convolution, and a skip connection.

    All are linear, so they are multiplied out into one 3x3 kernel before they are applied: a training step costs one
    convolution, and the borders are those of one convolution.

    Args:
        inputs: Number of input channels.
        outputs: Number of output channels; the input is added if it equals `inputs`.
        width: Number of channels between the two convolutions.
    """

    around: Tensor

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        wide, narrow = nn.Conv2d(inputs, width, 3, bias=False), nn.Conv2d(width, outputs, 1)
        nn.init.kaiming_normal_(wide.weight, nonlinearity="linear")
        nn.init.kaiming_normal_(narrow.weight, nonlinearity="linear")
        self.wide, self.narrow, self.bias = wide.weight, narrow.weight, nn.Parameter(torch.zeros(outputs))
        around = torch.zeros(outputs, inputs, 3, 3)
        if inputs == outputs:
            around[range(inputs), range(inputs), 1, 1] = 1
        self.register_buffer("around", around, persistent=False)

    @property
    def weight(self) -> Tensor:
        """The equivalent kernel, (outputs, inputs, 3, 3)."""
        kernel = (self.narrow.flatten(1) @ self.wide.flatten(1)).view_as(self.around) + self.around
        # The layout of the images; otherwise each convolution converts it, and a step takes 1.3 times as long on a CPU.
        return kernel.contiguous(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        return F.conv2d(x, self.weight, self.bias, padding=1)


class _Conv(nn.Conv2d):
    """A 3x3 convolution with a bias."""

    bias: nn.Parameter

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1)


class SESR(Net):
    """Plain 3x3 convolutions at low resolution on one channel, for luma; see `LumaSR` for color images.

    After SESR (Bhardwaj et al. 2022, arXiv 2103.09404), with 3x3 kernels throughout, ReLU, and bicubic interpolation
    in place of the repeated input. The last layer is initialized to zero, so an untrained network is bicubic
    interpolation.

    Args:
        channels: Width of every layer.
        layers: Number of layers between the first and the last.
        scale: Upscaling factor, an integer.
        width: Channels inside a layer during training, see `Collapsed`; if None, plain convolutions, as in `fused`.
    """

    inputs = 1
    outputs = 1
    stride = 1
    fused_arguments: ClassVar = {"width": None}

    def __init__(self, channels: int = 32, layers: int = 6, scale: int = 2, width: int | None = 256) -> None:
        super().__init__()
        check_range("net.channels", channels, 1)
        check_range("net.layers", layers, 0)
        check_range("scale", scale, 1)
        if width is not None:
            check_range("net.width", width, 1)
        self.scale = scale
        sides = [(1, channels), *((channels, channels),) * layers, (channels, scale**2)]
        self.convs = nn.ModuleList(_Conv(*side) if width is None else Collapsed(*side, width) for side in sides)
        last = self._layers()[-1]
        nn.init.zeros_(last.narrow if isinstance(last, Collapsed) else last.weight)
        nn.init.zeros_(last.bias)
        self.receptive_field = 1 + 2 * (2 + layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 1, scale * H, scale * W), both in [0, 1]; not clamped."""
        head, *body, tail = self._layers()
        first = features = F.relu(head(x))
        for conv in body:
            features = F.relu(conv(features))
        return images.bicubic_up(x, self.scale) + F.pixel_shuffle(tail(features + first), self.scale)

    @torch.no_grad()
    def fused(self) -> Self:
        """Return the same function as plain convolutions; outputs are equal to float rounding."""
        head, *body, _ = self._layers()
        plain = type(self)(len(head.bias), len(body), self.scale, width=None)
        for conv, trained in zip(plain._layers(), self._layers(), strict=True):
            conv.weight.copy_(trained.weight)
            conv.bias.copy_(trained.bias)
        return plain.train(self.training)

    def _layers(self) -> "list[Collapsed | _Conv]":
        return cast("list[Collapsed | _Conv]", list(self.convs))
