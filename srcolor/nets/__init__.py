"""Networks in plain PyTorch, one per file."""

from typing import cast

from torch import Tensor, nn


class Net(nn.Module):
    """Base class: maps images in [0, 1] to images in [0, 1], (N, C, H, W), and declares the properties below.

    Attributes:
        inputs: Number of input channels (1: gray, 3: RGB); if None, any number.
        outputs: Number of output channels; None if it equals the number of input channels.
        logits: Whether the output is the logit of each class instead of an image.
        scale: Upscaling factor.
        stride: Height and width are processed in multiples of this; other sizes are padded inside.
        receptive_field: Side, in input pixels, of the area that an output pixel depends on; None if unlimited.
        render_size: Shorter side, in pixels, at which a color network predicts color unless another is requested.
    """

    inputs: int | None
    outputs: int | None
    logits: bool = False
    scale: int
    stride: int
    receptive_field: int | None
    render_size: int = 64

    def render(self, gray: Tensor, size: int) -> Tensor:
        """Colorize an image that was reduced to a render size; a smaller image is not enlarged.

        Args:
            gray: (N, 1, H, W) in [0, 1], with a shorter side of at most `size`.
            size: The render size, for a network that resizes its input to it.

        Returns:
            (N, 3, H, W).
        """
        return self(gray)


def widest(net: nn.Module) -> int:
    """Return the number of channels of a network's widest convolution; 64, a guess, if it has none."""
    return max((weight.shape[0] for weight in net.parameters() if weight.ndim == 4), default=64)


def fused(net: nn.Module) -> nn.Module:
    """Replace re-parameterized modules with their inference form, in place where possible.

    Such a module has a method `fused`, which returns that form, and `fused_arguments`, the arguments that build it. An
    external network returns itself.

    Returns:
        The network; a new object only if `net` itself is re-parameterized.
    """
    if (fuse := getattr(net, "fused", None)) is not None:
        return cast(nn.Module, fuse())
    for name, child in net.named_children():
        setattr(net, name, fused(child))
    return net
