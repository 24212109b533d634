"""Fidelity metrics: PSNR and SSIM, over RGB, the luma, and the Y of the literature; consistency with the input."""

from typing import Self

import torch
from torch import Tensor

from srcolor.errors import UserError
from srcolor.images import block_mean, luma
from srcolor.metrics.base import Measure

EXACT = 120.0  # dB; above, the only difference is rounding in float32


class PSNR(Measure):
    """Peak signal-to-noise ratio over all pixels and channels of an image, in dB; infinite if exact.

    >>> PSNR()(torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.6))
    tensor([20.0000])
    """

    name = "psnr"
    heading = "PSNR (dB)"
    digits = 2
    higher_is_better = True

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        # Imported here, as commands that only read headings from this module should not import torchmetrics.
        from torchmetrics.functional.image import peak_signal_noise_ratio

        return peak_signal_noise_ratio(prediction, target, data_range=1.0, dim=(1, 2, 3), reduction="none")


class SSIM(Measure):
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window, sigma 1.5, mean over channels.

    Over the positions where the window lies inside the image, like the literature and scikit-image with
    `gaussian_weights=True, use_sample_covariance=False`; torchmetrics also averages the padded border.
    """

    name = "ssim"
    heading = "SSIM"
    digits = 4
    higher_is_better = True

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`; sides of at least 11 pixels."""
        self.check(target)
        return ssim(prediction, target)

    @classmethod
    def check(cls, images: Tensor) -> None:
        """See `Measure`."""
        height, width = images.shape[-2:]
        if min(height, width) < 11:
            raise UserError(
                f"SSIM of {width}x{height} images is not defined: its window is 11x11. Expected sides of at least 11; "
                "in training use a different size=."
            )


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean SSIM of each image, (N,), in the precision of the arguments; see `SSIM`.

    Args:
        first: (N, C, H, W) in [0, 1], sides of at least 11 pixels.
        second: Same shape as `first`.
    """
    moments = torch.stack([first, second, first * first, second * second, first * second])
    mean1, mean2, square1, square2, product = _gaussian(moments)
    squares, mean_product = mean1 * mean1 + mean2 * mean2, mean1 * mean2
    variances = (square1 - mean1 * mean1).clamp(min=0) + (square2 - mean2 * mean2).clamp(min=0)
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_product + c1) / (squares + c1)
    return (luminance * (2 * (product - mean_product) + c2) / (variances + c2)).mean((1, 2, 3))


def _gaussian(images: Tensor) -> Tensor:
    """Blur the last two dimensions by a Gaussian window of 11 pixels, sigma 1.5; drop the border of 5 pixels.

    The window is separable. Sums of shifted images need no copy per tap: on 1024x768 images in float64 they take a
    fifteenth of the time of one 11x11 convolution.
    """
    weights = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    for dim in (-2, -1):
        length = images.shape[dim] - 10
        blurred = torch.zeros_like(images.narrow(dim, 0, length))
        for shift, weight in enumerate(weights.tolist()):
            blurred.add_(images.narrow(dim, shift, length), alpha=weight)
        images = blurred
    return images


class PSNRLuma(PSNR):
    """PSNR of the luma, in dB; infinite above 120 dB, where the only difference is rounding in float32.

    >>> gray = torch.full((1, 3, 4, 4), 0.5)
    >>> PSNRLuma()(gray + 1e-7, gray)
    tensor([inf])
    """

    name = "psnr_luma"
    heading = "PSNR luma (dB)"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        psnr = super().forward(luma(prediction), luma(target))
        return psnr.where(psnr < EXACT, torch.inf)


class Consistency(PSNR):
    """PSNR between prediction and target at low resolution, in dB: does the prediction agree with its input?

    Both are reduced to the means of blocks of `scale` x `scale` pixels. With the pair `block_mean`, those of the target
    are the input. With the pair `bicubic` they are not: the value still detects shifts in brightness and color, but may
    be finite even if the prediction agrees exactly with its input.

    Infinite above 120 dB, like `PSNRLuma`, and then excluded from the mean.

    Args:
        scale: Side of a block in pixels.

    Raises:
        UserError: If a side is not a multiple of `scale`.

    >>> target = torch.tensor([[0.2, 0.4], [0.6, 0.8]]).expand(1, 3, 2, 2)
    >>> Consistency()(target.flip(3), target), Consistency()(target + 0.1, target)
    (tensor([inf]), tensor([20.0000]))
    """

    name = "consistency"
    heading = "consistency (dB)"

    def __init__(self, scale: int = 2) -> None:
        super().__init__()
        self.scale = scale

    @classmethod
    def for_scale(cls, scale: int) -> Self:
        """See `Measure`."""
        return cls(scale)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        psnr = super().forward(block_mean(prediction, self.scale), block_mean(target, self.scale))
        return psnr.where(psnr < EXACT, torch.inf)


class PSNRRGB(PSNR):
    """PSNR over RGB, reported together with PSNR of Y."""

    name = "psnr_rgb"
    heading = "PSNR RGB (dB)"


class PSNRY(PSNR):
    """PSNR of the literature's Y, in dB: BT.601 in its studio range, 16 to 235 of 255, in float64.

    It is 20 log10(255 / 219) = 1.32 dB higher than `PSNRLuma`.

    >>> PSNRY()(torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.6))
    tensor([21.3219], dtype=torch.float64)
    """

    name = "psnr_y"
    heading = "PSNR Y (dB)"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        return super().forward(_studio_y(prediction), _studio_y(target))


class SSIMY(SSIM):
    """SSIM of the literature's Y, see `PSNRY`."""

    name = "ssim_y"
    heading = "SSIM Y"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `SSIM`."""
        return super().forward(_studio_y(prediction), _studio_y(target))


def _studio_y(rgb: Tensor) -> Tensor:
    red, green, blue = rgb.double().split(1, dim=1)
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255
