"""A critic on pixels."""

import torch
from torch import Tensor

from srcolor import images
from srcolor.nets.critic import Critic


class PatchCritic(Critic):
    """Judge patches of 28x28 pixels, in sRGB or in CIELAB.

    Args:
        width: See `Critic`.
        lab: Whether to convert the images to CIELAB, scaled to [L / 50 - 1, a / 20, b / 20], for color.
    """

    reduction = 1

    def __init__(self, width: int = 32, lab: bool = False) -> None:
        super().__init__(3, width)
        self.lab = lab

    def _encode(self, rgb: Tensor) -> Tensor:
        if not self.lab:
            return rgb
        lightness, ab = images.rgb_to_lab(rgb).split([1, 2], 1)
        return torch.cat([lightness / 50 - 1, ab / 20], 1)
