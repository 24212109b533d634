"""The distribution of the color codes of a gray image."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from srcolor.color_code import NUMBERS

COMPONENTS = 5
LOG_STD = (-3.0, 1.0)  # range of the logarithms of the standard deviations


class Mixture(NamedTuple):
    """Mixtures of K Gaussians with diagonal covariance, one mixture per image.

    Attributes:
        log_weights: (N, K); their exponentials sum to 1.
        means: (N, K, 5).
        log_stds: Logarithms of the standard deviations, (N, K, 5).
    """

    log_weights: Tensor
    means: Tensor
    log_stds: Tensor

    def mean(self) -> Tensor:
        """Return the mean of each mixture, (N, 5)."""
        return (self.log_weights.exp()[..., None] * self.means).sum(1)

    def log_density(self, codes: Tensor) -> Tensor:
        """Return the logarithm of the density at codes, (N, 5); (N,)."""
        z = (codes[:, None] - self.means) * (-self.log_stds).exp()
        normal = -0.5 * z.square().sum(2) - self.log_stds.sum(2) - NUMBERS / 2 * math.log(2 * math.pi)
        return torch.logsumexp(normal + self.log_weights, 1)

    def sample(self, count: int, seeds: Sequence[int]) -> Tensor:
        """Draw codes, (N, count, 5).

        The draws are made on the CPU, each from the seed of its image and its position alone: the third of eight codes
        is also the third of three, whatever the other images are.

        Args:
            count: Codes per image.
            seeds: Seed of each image.
        """
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack(
            [torch.stack([torch.randn(1 + NUMBERS, generator=one) for _ in range(count)]) for one in generators]
        ).to(self.means)
        choice = torch.special.ndtr(noise[..., :1])  # uniform in [0, 1]
        component = (choice > self.log_weights.exp().cumsum(1)[:, None, :-1]).sum(2, keepdim=True)
        index = component.expand(-1, -1, NUMBERS)
        return self.means.gather(1, index) + self.log_stds.gather(1, index).exp() * noise[..., 1:]


class CodePrior(nn.Module):
    """Predict the distribution of an image's code from features, as a mixture density network (Bishop 1994).

    Codes are whitened by the caller: over the training images they have mean 0 and covariance 1. While `informed` is
    false, `predict` ignores the features and returns a standard normal distribution, one Gaussian for all images.

    Args:
        features: Number of features.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        outputs = nn.Linear(64, COMPONENTS * (1 + 2 * NUMBERS))
        nn.init.normal_(outputs.weight, std=1e-3)
        nn.init.normal_(outputs.bias, std=0.3)  # components with the same means would stay the same
        self.layers = nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), outputs)
        self.informed: Tensor
        self.register_buffer("informed", torch.tensor(True))

    def forward(self, features: Tensor, plain: Tensor) -> Mixture:
        """Return the predicted mixtures.

        Args:
            features: (N, features).
            plain: Whitened code of the prediction without a code, (N, 5), which the means are relative to.
        """
        log_weights, means, log_stds = self.layers(features).float().unflatten(1, (COMPONENTS, -1)).split((1, 5, 5), 2)
        return Mixture(log_weights[..., 0].log_softmax(1), plain[:, None] + means, log_stds.clamp(*LOG_STD))

    def predict(self, features: Tensor, plain: Tensor) -> Mixture:
        """Return the predicted mixtures, or standard normal distributions unless `informed`; see `forward`."""
        mixture = self(features, plain)
        pairs = zip(mixture, standard_normal(mixture), strict=True)
        return Mixture(*(torch.where(self.informed, informed, plain) for informed, plain in pairs))


def standard_normal(like: Mixture) -> Mixture:
    """Return standard normal distributions as mixtures of the same shape as others."""
    weights = torch.zeros_like(like.log_weights).log_softmax(1)
    return Mixture(weights, torch.zeros_like(like.means), torch.zeros_like(like.log_stds))
