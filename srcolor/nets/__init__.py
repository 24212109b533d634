"""Networks in plain PyTorch, one per file."""

from typing import cast

from torch import nn


class Net(nn.Module):
    """Base class: maps images in [0, 1] to images in [0, 1], (N, C, H, W), and declares the properties below.

    Attributes:
        inputs: Number of input channels (1: gray, 3: RGB); if None, any number.
        outputs: Number of output channels; None if it equals the number of input channels.
        scale: Upscaling factor.
        stride: Height and width are processed in multiples of this; other sizes are padded inside.
        receptive_field: Side, in input pixels, of the area that an output pixel depends on; None if unlimited.
    """

    inputs: int | None
    outputs: int | None
    scale: int
    stride: int
    receptive_field: int | None


def fused(net: nn.Module) -> nn.Module:
    """Replace re-parameterized modules with their inference form, in place where possible.

    Such a module has a method `fused`, which returns that form, and `fused_arguments`, the arguments that build it.

    Returns:
        The network; a new object only if `net` itself is re-parameterized.
    """
    if (fuse := getattr(net, "fused", None)) is not None:
        return cast(nn.Module, fuse())
    for name, child in net.named_children():
        setattr(net, name, fused(child))
    return net
