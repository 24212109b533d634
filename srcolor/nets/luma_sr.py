"""Super-resolution where the eye sees it: in the luma."""

from torch import Tensor

from srcolor import images
from srcolor.nets import Net


class LumaSR(Net):
    """Enlarges the luma by a network, the chroma by bicubic interpolation.

    So the network cannot change colours, and sees grays only.

    Args:
        net: A super-resolution network, RGB to RGB.
    """

    inputs = 3
    outputs = 3

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.scale, self.stride = net.scale, net.stride
        self.receptive_field = None if net.receptive_field is None else max(net.receptive_field, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) to (N, 3, scale * H, scale * W), both in [0, 1]."""
        gray = images.luma(self.net(images.luma(x).expand(-1, 3, -1, -1))).clamp(0, 1)
        return images.with_luma(images.bicubic_up(x, self.scale), gray)
