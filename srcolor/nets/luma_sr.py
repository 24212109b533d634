"""Super-resolution of the luma alone."""

import torch
from torch import Tensor

from srcolor import images
from srcolor.nets import Net


class LumaSR(Net):
    """Enlarge the luma with a network and the chroma with bicubic interpolation.

    The network receives gray only and cannot change colors. For a gray input the output is the network's luma, which
    is all that training needs.

    Args:
        net: A super-resolution network from gray to gray or from RGB to RGB.
    """

    inputs = None
    outputs = None

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.scale, self.stride = net.scale, net.stride
        self.receptive_field = None if net.receptive_field is None else max(net.receptive_field, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, scale * H, scale * W), both in [0, 1], C 1 or 3; gray is not clamped."""
        if x.shape[1] == 1:
            return self._large(x)
        gray = images.luma(x)
        # The chroma is taken before it is enlarged: interpolation is linear, so the result is the same.
        return images.with_chroma(self._large(gray).clamp(0, 1), images.bicubic_up(x - gray, self.scale))

    def _large(self, gray: Tensor) -> Tensor:
        """Return the enlarged luma, (N, 1, scale * H, scale * W)."""
        if self.net.inputs == 1:
            return self.net(gray)
        # Without a copy in channels last, convolutions in bfloat16 take four times as long on a CPU with AMX.
        rgb = gray.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last)
        return images.luma(self.net(rgb))
