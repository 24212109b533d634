"""The color code of an image: the mean and the covariance of its a* and b*, five numbers.

A code says how warm, how vivid and how varied the colors of an image are, and leaves open which pixel has which color.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NUMBERS = 5
FLOOR = 1e-5  # variance added in every direction: an image of one color has none
GAIN = 25.0  # default limit of `recolor`; with 10, a network in training learned to stay at it, and colors stayed dull


class ColorCode(NamedTuple):
    """The codes of N images, in CIELAB units.

    Attributes:
        mean: Mean a* and b*, (N, 2).
        covariance: Covariance of a* and b* over the pixels, (N, 2, 2).
    """

    mean: Tensor
    covariance: Tensor


def color_code(ab: Tensor) -> ColorCode:
    """Return the codes of images.

    Args:
        ab: (N, 2, H, W), a* and b* of CIELAB.

    >>> ab = torch.tensor([[1.0, 3.0], [10.0, 20.0]]).reshape(1, 2, 1, 2)
    >>> code = color_code(ab)
    >>> code.mean, code.covariance
    (tensor([[ 2., 15.]]), tensor([[[ 1.,  5.],
             [ 5., 25.]]]))
    """
    with torch.autocast(ab.device.type, enabled=False):
        pixels = ab.float().flatten(2)
        mean = pixels.mean(2)
        centered = pixels - mean[..., None]
        return ColorCode(mean, centered @ centered.mT / pixels.shape[2])


def recolor(ab: Tensor, code: ColorCode, limit: float = GAIN) -> Tensor:
    """Map the a*, b* of images to another mean and covariance.

    The map is affine, the optimal transport between Gaussians (Olkin and Pukelsheim 1982): of all affine maps with this
    result, it moves the colors least, and it is the identity at the image's own code. Its gain is limited, so that an
    image of nearly one color is not turned into noise.

    Args:
        ab: (N, 2, H, W).
        code: The codes of the result; N, or one for all images.
        limit: Maximum factor on the deviation of a pixel from the mean color.

    Returns:
        (N, 2, H, W); its code is `code`, to 1e-4, unless the gain is limited.
    """
    with torch.autocast(ab.device.type, enabled=False):
        before, after = color_code(ab), ColorCode(code.mean.float(), code.covariance.float())
        floor = FLOOR * torch.eye(2, device=ab.device)
        transport = _transport(before.covariance + floor, after.covariance + floor)
        # The Frobenius norm is at least the largest gain and at most 1.42 times it.
        gain = torch.linalg.matrix_norm(transport)[:, None, None]
        transport = transport * (limit / gain).clamp(max=1)
        moved = transport @ (ab.float().flatten(2) - before.mean[..., None]) + after.mean[..., None]
        return moved.view_as(ab)


def variance(covariance: Tensor) -> Tensor:
    """Return the total variance of a* and b*, (N,), of covariances, (N, 2, 2)."""
    return covariance.diagonal(dim1=1, dim2=2).sum(1)


def to_vector(code: ColorCode) -> Tensor:
    """Return codes as unconstrained vectors, (N, 5): the means, and the log-Cholesky factor of the covariance."""
    variance_a, variance_b = code.covariance[:, 0, 0] + FLOOR, code.covariance[:, 1, 1] + FLOOR
    first = variance_a.sqrt()
    below = code.covariance[:, 0, 1] / first
    second = (variance_b - below.square()).clamp(min=FLOOR).sqrt()
    return torch.cat([code.mean, torch.stack([first.log(), below, second.log()], 1)], 1)


def from_vector(vector: Tensor) -> ColorCode:
    """Return the codes of vectors, (N, 5); the inverse of `to_vector`."""
    first, below, second = vector[:, 2].exp(), vector[:, 3], vector[:, 4].exp()
    cross = first * below
    covariance = torch.stack([first.square(), cross, cross, below.square() + second.square()], 1).view(-1, 2, 2)
    return ColorCode(vector[:, :2], covariance - FLOOR * torch.eye(2, device=vector.device))


def _transport(source: Tensor, target: Tensor) -> Tensor:
    """Return the optimal transport between Gaussians with these covariances, (N, 2, 2).

    It is the geometric mean of the inverse of `source` and of `target`, which has a closed form for 2x2 matrices
    (Bhatia 2007, Positive Definite Matrices, proposition 4.1.12). It is stable even if the colors lie on a line.
    """
    (a, b), (_, c) = source[:, 0].unbind(1), source[:, 1].unbind(1)
    adjugate = torch.stack([c, -b, -b, a], 1).view(-1, 2, 2)
    first, second = _volume(source), _volume(target)
    product_trace = (source * target).sum((1, 2))[:, None, None]
    return (second * adjugate + first * target) / (first * (product_trace + 2 * first * second).sqrt())


def _volume(covariance: Tensor) -> Tensor:
    """Return the square roots of the determinants, (N, 1, 1).

    The lower bound is above the rounding errors of nearly singular matrices: colors on a line.
    """
    trace = variance(covariance)
    determinant = covariance[:, 0, 0] * covariance[:, 1, 1] - covariance[:, 0, 1].square()
    return determinant.clamp(min=trace * (FLOOR / 2 + 1e-6 * trace)).sqrt()[:, None, None]
