"""A super-resolution network whose output agrees with its input."""

from torch import Tensor

from srcolor import images
from srcolor.errors import UserError
from srcolor.nets import Net


class Projected(Net):
    """Project the output of a network onto the images whose block means are the input; see `images.consistent`.

    What the network invents cannot contradict the low-resolution image. Exact for the pair `block_mean`.

    Args:
        net: A super-resolution network.

    Raises:
        UserError: If the network does not enlarge, or changes the number of channels.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        if net.scale == 1 or net.inputs != net.outputs:
            raise UserError(
                f"{type(net).__name__} cannot be projected onto its input: expected a network that enlarges, from RGB "
                "to RGB or from gray to gray. Choose net=residual, for example."
            )
        self.net = net
        self.inputs, self.outputs, self.scale, self.stride = net.inputs, net.outputs, net.scale, net.stride
        self.receptive_field = net.receptive_field  # the pixels of a block see the same input pixels

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, C, scale * H, scale * W), both in [0, 1]; not clamped."""
        return images.consistent(self.net(x), x)
