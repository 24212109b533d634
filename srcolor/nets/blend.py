"""A blend of the outputs of two networks, from faithful to sharp."""

from torch import Tensor

from srcolor.errors import UserError, check_range
from srcolor.nets import Net


class Blend(Net):
    """Interpolate between the outputs of two networks for the same input.

    The optimal estimators between minimum squared error and perfect perceptual quality lie on a straight line
    (Freirich, Michaeli and Meir 2021), so the outputs are blended, not the weights.

    Args:
        faithful: The network trained with the pixel loss.
        sharp: The network trained with the adversarial loss.
        sharpness: Weight of the sharp network, from 0 to 1. At 0 and at 1, only one network runs.

    Raises:
        UserError: If the networks differ in channels or scale, or `sharpness` is out of range.
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
