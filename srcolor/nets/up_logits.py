"""Segmentation at a small size, enlarged."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcolor import images
from srcolor.errors import UserError, check_range
from srcolor.nets import Net


class UpLogits(Net):
    """Enlarge the logits of a segmentation network by bicubic interpolation.

    Args:
        net: The segmentation network.
        scale: Integer factor.
        shrink: Whether the input is the large image, which is reduced by block means first; else it is the small one.

    Raises:
        UserError: If the network returns no logits.
    """

    logits = True

    def __init__(self, net: Net, scale: int, shrink: bool = False) -> None:
        super().__init__()
        check_range("net.scale", scale, 1)
        check_segments(net)
        self.net = net
        self.factor = scale
        self.shrink = shrink
        self.inputs = net.inputs
        self.outputs = net.outputs
        self.scale = 1 if shrink else scale
        large = scale if shrink else 1  # pixels of the input per pixel of the small image
        self.stride = large * net.stride
        self.receptive_field = None if net.receptive_field is None else large * (net.receptive_field + 4)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) in [0, 1] to logits, (N, classes, scale * H, scale * W), or (..., H, W) with `shrink`."""
        if not self.shrink:
            return enlarged(self.net(x), x, self.factor)
        small = images.block_mean(padded(x, self.factor), self.factor)
        return enlarged(self.net(small), x, self.factor)[..., : x.shape[-2], : x.shape[-1]]


def enlarged(logits: Tensor, image: Tensor, factor: int) -> Tensor:
    """Enlarge logits by bicubic interpolation, in the precision of an image: PyTorch lacks it in bfloat16."""
    return images.bicubic_up(logits.to(torch.promote_types(logits.dtype, image.dtype)), factor)


def padded(x: Tensor, multiple: int) -> Tensor:
    """Pad images, (N, C, H, W), at the bottom and the right with their edges, to multiples of a side."""
    return F.pad(x, (0, -x.shape[-1] % multiple, 0, -x.shape[-2] % multiple), mode="replicate")


def check_segments(net: nn.Module) -> None:
    """Check that a network segments.

    Raises:
        UserError: If it returns no logits.
    """
    if not getattr(net, "logits", False):
        raise UserError(
            f"{type(net).__name__} returns an image, expected the logits of classes: choose net=unet_segment, or a run "
            "of experiment=segment64."
        )
