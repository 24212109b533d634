"""The base class of critics, which tell targets from predictions."""

import math
from abc import abstractmethod
from collections.abc import Iterable
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from srcolor.errors import UserError, check_range
from srcolor.images import Pair


class Critic(nn.Module):
    """Five convolutions without normalization, from an encoded image to a map of logits: higher is more real.

    The gradient penalty is that of `forward`, with respect to the encoded image.

    Args:
        channels: Channels of the encoded image.
        width: Channels of the first layer; the others have twice and four times as many.

    Attributes:
        view: Side of a logit's receptive field, in pixels of the encoded image.
        reduction: Ratio of the side of an image to the side of the encoded image.
    """

    view: ClassVar[int] = 28
    reduction: ClassVar[int]

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        check_range("adversary.critic.width", width, 1)
        sides = [channels, width, 2 * width, 4 * width, 4 * width, 1]
        layers: list[nn.Module] = []
        for (inputs, outputs), kernel in zip(pairwise(sides), (3, 4, 4, 3, 3), strict=True):
            layers += [nn.Conv2d(inputs, outputs, kernel, stride=2 if kernel == 4 else 1, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def fit(self, pairs: Iterable[Pair]) -> None:
        """Fit the encoding to training images; by default it has nothing to fit."""

    def encode(self, images: Tensor) -> Tensor:
        """Encode images, gray or RGB, as `forward` takes them.

        Args:
            images: (N, 1 or 3, H, W) in [0, 1].

        Returns:
            (N, channels, H / reduction, W / reduction), float32.

        Raises:
            UserError: If the images are smaller than a logit's receptive field, their sides are not multiples of
                `reduction`, or they are neither gray nor RGB.
        """
        channels, height, width = images.shape[1:]
        least = self.view * self.reduction
        if min(height, width) < least or height % self.reduction or width % self.reduction:
            raise UserError(
                f"{type(self).__name__} looks at {least}x{least} pixels, but the targets are {width}x{height}: "
                f"expected sides of at least {least} that are multiples of {self.reduction}. Choose a larger size=, or "
                "adversary=none."
            )
        if channels not in (1, 3):
            raise UserError(
                f"{type(self).__name__} judges gray or RGB images, but the targets have {channels} channels. Use "
                "adversary=none."
            )
        return self._encode(images.float().expand(-1, 3, -1, -1))

    @abstractmethod
    def _encode(self, rgb: Tensor) -> Tensor: ...

    def forward(self, encoded: Tensor) -> Tensor:
        """Map (N, channels, h, w) to logits, (N, 1, h / 4, w / 4)."""
        return self.layers(encoded)

    @torch.no_grad()
    def reset(self, seed: int) -> None:
        """Reinitialize all layers as in a new critic, with the same weights on every device and process."""
        generator = torch.Generator().manual_seed(seed)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                bound = 1 / math.sqrt(layer.weight[0].numel())  # PyTorch's default
                for parameter in layer.parameters():
                    parameter.copy_((2 * torch.rand(parameter.shape, generator=generator) - 1) * bound)
