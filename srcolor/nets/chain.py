"""Two networks in sequence."""

import math

from torch import Tensor

from srcolor.errors import UserError
from srcolor.nets import Net


class Chain(Net):
    """Apply one network to the output of another, clamped to [0, 1].

    Args:
        first: The network that receives the input.
        second: The network that receives the output of the first.

    Raises:
        UserError: If the output channels of the first differ from the input channels of the second.
    """

    def __init__(self, first: Net, second: Net) -> None:
        super().__init__()
        outputs, inputs = getattr(first, "outputs", None), getattr(second, "inputs", None)
        if None not in (outputs, inputs) and outputs != inputs:
            raise UserError(
                f"{type(first).__name__} outputs {outputs} channel(s), {type(second).__name__} expects {inputs}: they "
                "cannot be chained in this order. A color network comes first, a super-resolution network second."
            )
        self.first = first
        self.second = second
        self.inputs = getattr(first, "inputs", None)
        self.outputs = getattr(second, "outputs", None) or outputs
        self.scale = first.scale * second.scale
        # The sides of the second's input are first.scale times as long, and must be multiples of its stride.
        self.stride = math.lcm(first.stride, second.stride // math.gcd(second.stride, first.scale))
        if first.receptive_field is None or second.receptive_field is None:
            self.receptive_field = None
        else:
            margin = math.ceil((second.receptive_field - 1) / first.scale)
            self.receptive_field = first.receptive_field + first.stride * math.ceil(margin / first.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, scale * H, scale * W), both in [0, 1]."""
        return self.second(self.first(x).clamp(0, 1))
