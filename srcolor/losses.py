"""Losses between a prediction and its target, both (N, C, H, W) in [0, 1]; each answers a scalar."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcolor.errors import check_range


class L1(nn.Module):
    """Mean absolute error: the field's default for PSNR.

    >>> L1()(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5))
    tensor(0.5000)
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See the class."""
        return F.l1_loss(prediction, target)


class MSE(nn.Module):
    """Mean squared error.

    Args:
        value_range: Width of the range that the error is measured on: 1 for [0, 1], 2 for [-1, 1].
            It matters beside a weight decay, which does not scale along.

    >>> MSE(value_range=2)(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5))
    tensor(1.)
    """

    def __init__(self, value_range: float = 1.0) -> None:
        super().__init__()
        check_range("loss.value_range", value_range, 1e-6)
        self.value_range = value_range

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See the class."""
        return F.mse_loss(prediction, target) * self.value_range**2


class Charbonnier(nn.Module):
    """Smooth L1: sqrt(error² + eps²), after Charbonnier et al. 1994, as LapSRN uses it.

    Args:
        eps: Below this error the loss is quadratic, above it linear; in units of the image range.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        check_range("loss.eps", eps, 0)
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See the class."""
        return torch.sqrt((prediction - target).square() + self.eps**2).mean()
