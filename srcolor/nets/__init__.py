"""Networks, one a file, in plain PyTorch."""

from typing import cast

from torch import nn


class Net(nn.Module):
    """What every network says of itself; it takes images in [0, 1] and answers images in [0, 1], (N, C, H, W).

    Attributes:
        inputs: How many channels it takes (1: gray, 3: RGB); None for any number.
        outputs: How many channels it gives; None for as many as it takes.
        scale: How many output pixels a side come from one input pixel.
        stride: Input sides are handled in multiples of this.
        receptive_field: How many input pixels a side one output pixel depends on; None where it depends on
            all of them.
    """

    inputs: int | None
    outputs: int | None
    scale: int
    stride: int
    receptive_field: int | None


def fused(net: nn.Module) -> nn.Module:
    """Puts every part that is trained in another form than it is used in into the latter, in place where it can.

    A part that has such a form has a method `fused`, which answers it, and `fused_arguments`, what it is built with.
    """
    if (own := getattr(net, "fused", None)) is not None:
        return cast(nn.Module, own())
    for name, child in net.named_children():
        setattr(net, name, fused(child))
    return net
