"""The blended outputs of two networks: how sharp the result is, between faithful and adversarial."""

from torch import Tensor

from srcolor.errors import UserError, check_range
from srcolor.nets import Net


class Blend(Net):
    """Interpolate between the outputs of two networks for the same input.

    Between the least squared error and natural images, the best estimators lie on a line (Freirich, Michaeli and Meir
    2021): so outputs are blended, not weights.

    Args:
        faithful: The network of the pixel loss.
        sharp: The network of the adversarial loss.
        sharpness: Share of the sharp network, from 0 to 1. At 0 and at 1 only one of them runs.

    Raises:
        UserError: The networks have different channels or factors, or the share is out of range.
    """

    def __init__(self, faithful: Net, sharp: Net, sharpness: float = 1.0) -> None:
        super().__init__()
        check_range("sharpness", sharpness, 0, 1)
        kinds = [(net.inputs, net.outputs, net.scale) for net in (faithful, sharp)]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"{type(faithful).__name__} and {type(sharp).__name__} cannot be blended: expected the same input and "
                "output channels and the same factor."
            )
        self.faithful, self.sharp, self.sharpness = faithful, sharp, sharpness
        self.inputs, self.outputs, self.scale = kinds[0]
        self.stride = max(faithful.stride, sharp.stride)
        fields = [net.receptive_field for net in (faithful, sharp)]
        self.receptive_field = None if None in fields else max(field for field in fields if field is not None)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, scale * H, scale * W), both in [0, 1]; not clamped."""
        if self.sharpness in (0, 1):
            return self.sharp(x) if self.sharpness else self.faithful(x)
        return self.faithful(x).lerp(self.sharp(x), self.sharpness)
