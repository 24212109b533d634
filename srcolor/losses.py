"""Losses between a prediction and its target, both (N, C, H, W) in [0, 1]; each returns a scalar.

The functions at the end are adversarial losses, of a critic's logits.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srcolor.errors import check_range
from srcolor.images import rgb_to_lab


class L1(nn.Module):
    """Mean absolute error, the usual loss for PSNR.

    >>> L1()(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.5))
    tensor(0.5000)
    """

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See the class."""
        return F.l1_loss(prediction, target)


class MSE(nn.Module):
    """Mean squared error.

    Args:
        value_range: Width of the range that the error is computed on: 1 for [0, 1], 2 for [-1, 1]. It matters with
            weight decay, which does not scale with the loss.

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
    """Smooth L1: sqrt(error² + eps²), after Charbonnier et al. 1994, as in LapSRN.

    Args:
        eps: Error below which the loss is quadratic and above which it is linear; in units of the image range.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        check_range("loss.eps", eps, 0)
        self.eps = eps

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See the class."""
        return torch.sqrt((prediction - target).square() + self.eps**2).mean()


class HuberAB(nn.Module):
    """Huber loss on a* and b* of CIELAB: squared for small errors, linear for large ones.

    Args:
        delta: Error above which the loss is linear, in units of a* and b*.
        lightness: Weight of the error of L*, for networks that do not preserve it.

    >>> gray, red = torch.full((1, 3, 1, 1), 0.5), torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    >>> HuberAB(delta=10)(gray, red)  # a* = 80.1, b* = 67.2
    tensor(68.6469)
    """

    def __init__(self, delta: float = 10.0, lightness: float = 0.0) -> None:
        super().__init__()
        check_range("loss.delta", delta, 1e-6)
        check_range("loss.lightness", lightness, 0)
        self.delta = delta
        self.lightness = lightness

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See the class; RGB in [0, 1]."""
        prediction, target = rgb_to_lab(prediction), rgb_to_lab(target)
        loss = self.of_ab(prediction[:, 1:], target[:, 1:])
        return loss if self.lightness == 0 else loss + self.lightness * self._huber(prediction[:, :1] - target[:, :1])

    def of_ab(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a* and b*, (N, 2, H, W), which may be outside of sRGB."""
        return self._huber(prediction - target)

    def _huber(self, error: Tensor) -> Tensor:
        return F.huber_loss(error, torch.zeros_like(error), delta=self.delta) / self.delta


def relativistic(better: Tensor, worse: Tensor) -> Tensor:
    """Return the relativistic paired loss, softplus(worse - better), of logits; log 2 where they are equal.

    After Jolicoeur-Martineau 2018 (arXiv 1807.00734) and R3GAN (Huang et al. 2024, arXiv 2501.05441). For a critic
    `better` are the logits of targets, and `worse` those of predictions of the same inputs; for a generator the two are
    exchanged.

    Args:
        better: Logits of any shape.
        worse: Those that belong to them, the same shape.

    Returns:
        The mean, a scalar in float32.

    >>> relativistic(torch.tensor([2.0, 0.0]), torch.zeros(2))  # the mean of 0.1269 and 0.6931
    tensor(0.4100)
    """
    return F.softplus(worse.float() - better.float()).mean()


def gradient_penalty(critic: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Return the squared gradient of a critic at images: R1 at targets, R2 at predictions (Mescheder et al. 2018).

    The gradient is that of the sum of an image's logits, and its squared norm is divided by their number. With the mean
    of the logits instead, the penalty would be divided by that number once more.

    Args:
        critic: Maps (N, C, H, W) to logits, (N, 1, h, w), of each image by itself.
        images: (N, C, H, W); not differentiated further.

    Returns:
        The mean over the images, a scalar, computed in float32.
    """
    with torch.autocast(images.device.type, enabled=False):
        images = images.detach().float().requires_grad_()
        logits = critic(images)
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return gradient.square().sum((1, 2, 3)).mean() / logits[0].numel()
