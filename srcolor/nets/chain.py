"""Two networks, one after the other."""

import math

from torch import Tensor

from srcolor.errors import UserError
from srcolor.nets import Net


class Chain(Net):
    """Gives the answer of one network to another.

    Args:
        first: Sees the input.
        second: Sees what the first answers.

    Raises:
        UserError: The second takes another number of channels than the first gives.
    """

    def __init__(self, first: Net, second: Net) -> None:
        super().__init__()
        given, taken = getattr(first, "outputs", None), getattr(second, "inputs", None)
        if None not in (given, taken) and given != taken:
            raise UserError(
                f"{type(first).__name__} gives {given} channel(s), {type(second).__name__} takes {taken}: they cannot "
                "be chained in this order. A colour network comes first, a super-resolution network second."
            )
        self.first = first
        self.second = second
        self.inputs = getattr(first, "inputs", None)
        self.outputs = getattr(second, "outputs", None) or given
        self.scale = first.scale * second.scale
        # The first's answer has first.scale as many pixels a side, which the second takes in multiples of its own.
        self.stride = math.lcm(first.stride, second.stride // math.gcd(second.stride, first.scale))
        if first.receptive_field is None or second.receptive_field is None:
            self.receptive_field = None
        else:
            beside = math.ceil((second.receptive_field - 1) / first.scale)
            self.receptive_field = first.receptive_field + first.stride * math.ceil(beside / first.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, D, scale * H, scale * W), both in [0, 1]."""
        return self.second(self.first(x).clamp(0, 1))
