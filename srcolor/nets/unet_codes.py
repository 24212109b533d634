"""A colorization network that offers several colorings, one per color code."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from srcolor import images
from srcolor.color_code import FLOOR, NUMBERS, ColorCode, color_code, from_vector, recolor, to_vector, variance
from srcolor.errors import check_range
from srcolor.images import Pair
from srcolor.nets.code_prior import CodePrior, Mixture
from srcolor.nets.unet import UNet

TEMPERATURE = 3.0  # maximum of `samples`: farther out, the spread of a code overflows
VIVIDNESS = 0.95  # spread of the stable coloring relative to what is predicted: the error grows quickly toward 1


class Outputs(NamedTuple):
    """The outputs of the network in training.

    Attributes:
        plain: a* and b* predicted without a code, (N, 2, H, W).
        coded: a* and b* predicted with the given codes, (N, 2, H, W).
        prior: The predicted distribution of the whitened codes.
        code: The given codes, whitened, (N, 5).
    """

    plain: Tensor
    coded: Tensor
    prior: Mixture
    code: Tensor


class UNetCodes(UNet):
    """Colorize with a given color code, and predict which codes are plausible.

    The mean color of an image and how vivid it is, its color code (`srcolor.color_code`), are mostly not in the gray
    image. A network trained with a pixel loss predicts their mean, which is dull. This network takes the code as a
    second input: it modulates the coarsest features (FiLM, Perez et al. 2018), and the predicted a*, b* are mapped to
    it exactly. A small mixture density network predicts the distribution of codes from the gray image; its samples
    give different colorings.

    `forward` returns the stable coloring. Its mean color is that of the predicted distribution. Its covariance is that
    of the prediction without a code, scaled to the spread that the distribution predicts, times `VIVIDNESS`. Codes are
    whitened by the mean and covariance of those of the training images, which `fit` computes.

    Args:
        channels: See `UNet`.
        blocks: See `UNet`.
        levels: See `UNet`.
    """

    def __init__(self, channels: int = 64, blocks: int = 1, levels: int = 8) -> None:
        super().__init__(channels, blocks, levels)
        self.receptive_field = None  # the code is a global statistic
        width = 2 * channels
        last = nn.Linear(64, 2 * width)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.film = nn.Sequential(nn.Linear(NUMBERS, 64), nn.ReLU(), last)
        self.prior = CodePrior(2 * width + NUMBERS)
        self.code_mean: Tensor
        self.code_root: Tensor
        self.code_inverse: Tensor
        self.register_buffer("code_mean", torch.zeros(NUMBERS))
        self.register_buffer("code_root", torch.eye(NUMBERS))
        self.register_buffer("code_inverse", torch.eye(NUMBERS))

    @property
    def fitted(self) -> bool:
        """Whether the statistics of the codes are known."""
        return bool(self.code_mean.any())

    @torch.no_grad()
    def fit(self, pairs: Iterable[Pair]) -> None:
        """Compute the mean and covariance of the codes of training images.

        Args:
            pairs: Gray inputs and color targets.
        """
        codes = torch.cat([to_vector(color_code(images.rgb_to_ab(pair.target))) for pair in pairs]).double()
        self.code_mean.copy_(codes.mean(0))
        covariance = codes.T.cov(correction=0) + 1e-6 * torch.eye(NUMBERS).to(codes)
        root = torch.linalg.cholesky(covariance)
        self.code_root.copy_(root)
        self.code_inverse.copy_(torch.linalg.inv(root))

    def forward(self, gray: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 3, H, W), both in [0, 1]: the stable coloring."""
        encoded = self.encode(gray)
        return self._colored(gray, encoded, self._codes(gray, encoded)[0])

    def samples(self, gray: Tensor, count: int, temperature: float, seeds: Sequence[int], skip: int = 0) -> Tensor:
        """Return several colorings of each image, (N, count - skip, 3, H, W), in [0, 1].

        Args:
            gray: (N, 1, H, W) in [0, 1].
            count: Colorings per image. The first ones do not depend on how many follow.
            temperature: Distance from the stable coloring: 0 always returns it, 1 samples the distribution of codes,
                and 3 is the maximum.
            seeds: Seed of each image.
            skip: First colorings that are neither computed nor returned.

        Raises:
            UserError: If `count` or `temperature` is out of range.
        """
        check_range("samples", count, 1)
        check_range("temperature", temperature, 0, TEMPERATURE)
        encoded = self.encode(gray)
        stable, mixture = self._codes(gray, encoded)
        codes = torch.lerp(stable[:, None], mixture.sample(count, seeds)[:, skip:], temperature)
        return torch.stack([self._colored(gray, encoded, code) for code in codes.unbind(1)], 1)

    def colorize(self, gray: Tensor, code: ColorCode) -> Tensor:
        """Return the coloring with given codes, (N, 3, H, W) in [0, 1].

        Args:
            gray: (N, 1, H, W) in [0, 1].
            code: N codes.
        """
        return images.from_ab(gray, self._coded(gray, self.encode(gray), self.whiten(code), code))

    def training_outputs(self, gray: Tensor, code: ColorCode) -> Outputs:
        """Return the outputs that are trained: the predictions without and with a code, and the distribution of codes.

        Args:
            gray: (N, 1, H, W) in [0, 1].
            code: The true codes of the N images.
        """
        encoded, whitened = self.encode(gray), self.whiten(code)
        plain = self.decode(gray, *encoded)
        prior = self.prior(*self._statistics(encoded[0], plain))
        return Outputs(plain, self._coded(gray, encoded, whitened, code), prior, whitened)

    def whiten(self, code: ColorCode) -> Tensor:
        """Return codes as vectors, (N, 5), of mean 0 and covariance 1 over the training images."""
        with torch.autocast(code.mean.device.type, enabled=False):
            return (to_vector(code) - self.code_mean) @ self.code_inverse.mT

    def code(self, whitened: Tensor) -> ColorCode:
        """Return the codes of whitened vectors, (N, 5); the inverse of `whiten`."""
        with torch.autocast(whitened.device.type, enabled=False):
            return from_vector(whitened.to(self.code_root) @ self.code_root.mT + self.code_mean)

    def _codes(self, gray: Tensor, encoded: tuple[Tensor, list[Tensor]]) -> tuple[Tensor, Mixture]:
        """Return the whitened code of the stable coloring, (N, 5), and the distribution of codes."""
        plain = self.decode(gray, *encoded)
        mixture = self.prior.predict(*self._statistics(encoded[0], plain))
        expected, shape = self.code(mixture.mean()), color_code(plain).covariance
        ratio = variance(expected.covariance).clamp(min=0) / variance(shape).clamp(min=FLOOR)
        covariance = VIVIDNESS**2 * ratio[:, None, None] * shape
        return self.whiten(ColorCode(expected.mean, covariance)), mixture

    def _statistics(self, coarsest: Tensor, plain: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the prior, which does not train the features."""
        pooled = coarsest.detach().float()
        code = self.whiten(color_code(plain.detach()))
        return torch.cat([pooled.mean((2, 3)), pooled.std((2, 3), correction=0), code], 1), code

    def _colored(self, gray: Tensor, encoded: tuple[Tensor, list[Tensor]], whitened: Tensor) -> Tensor:
        return images.from_ab(gray, self._coded(gray, encoded, whitened, self.code(whitened)))

    def _coded(self, gray: Tensor, encoded: tuple[Tensor, list[Tensor]], whitened: Tensor, code: ColorCode) -> Tensor:
        coarsest, skips = encoded
        scale, shift = self.film(whitened)[..., None, None].chunk(2, 1)
        ab = self.decode(gray, coarsest * (1 + scale) + shift, skips)
        with torch.autocast(gray.device.type, enabled=False):
            return recolor(ab, code)
