"""Geometric self-ensemble."""

import torch
from torch import Tensor

from srcolor.nets import Net


class Ensemble(Net):
    """The mean of a network's outputs for the eight flips and rotations of the image; takes eight times as long.

    After EDSR (Lim et al. 2017, arXiv 1707.02921), which calls it geometric self-ensemble.

    Args:
        net: A network from images to images.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net
        self.inputs, self.outputs, self.scale, self.stride = net.inputs, net.outputs, net.scale, net.stride
        self.receptive_field = net.receptive_field

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, scale * H, scale * W)."""
        outputs = []
        for transposed in (False, True):
            for flips in ((), (2,), (3,), (2, 3)):
                image = (x.transpose(2, 3) if transposed else x).flip(flips)
                output = self.net(image).flip(flips)
                outputs.append(output.transpose(2, 3) if transposed else output)
        return torch.stack(outputs).mean(0)
