"""Metrics of restored images, as torchmetrics classes that keep the value of every image.

A figure of a set is the mean of its images' values. (torchmetrics' own PSNR pools the squared error
over images by default: 20 dB and 40 dB give 22.97, not 30.) Images are RGB in [0, 1]; a* and b* are those of
CIELAB, and an error of theirs is in its units.
"""

from abc import abstractmethod
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.image import peak_signal_noise_ratio

from srcolor.errors import UserError
from srcolor.images import luma, rgb_to_lab

GRID = 8  # patches are the cells of a grid of so many rows and columns
GRAY_CHROMA = 0.01  # a pixel of less chroma has no hue; kornia's grays have up to 0.005


class PerImage(Metric):
    """Mean over images of a value that a subclass works out for each.

    Images whose value is infinite are left out of the mean (an image reproduced exactly has an infinite
    PSNR). `values` gives the value of every image so far, (N,).
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor]
        self.add_state("seen", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Works out the values, (N,), of images (N, C, H, W) in [0, 1]."""

    @classmethod
    def check(cls, images: Tensor) -> None:  # most metrics are defined at any size
        """Check that the metric is defined at the size of some images, (N, C, H, W).

        Raises:
            UserError: It is not.
        """

    def update(self, prediction: Tensor, target: Tensor, lab: tuple[Tensor, Tensor] | None = None) -> None:
        """Adds a batch of images, (N, C, H, W) in [0, 1]; `lab`, if they were converted already, is both in CIELAB."""
        self.seen.append(self.per_image(prediction, target))

    @property
    def values(self) -> Tensor:
        """The value of every image, in the order they came."""
        return torch.cat(self.seen) if isinstance(self.seen, list) else self.seen

    def compute(self) -> Tensor:
        """Mean of the values that are not infinite; infinite where all are."""
        values = self.values.double()
        finite = values[~values.isinf()]
        return finite.mean() if len(finite) else values.mean()


class LabMetric(PerImage):
    """A value that a subclass works out in CIELAB."""

    def update(self, prediction: Tensor, target: Tensor, lab: tuple[Tensor, Tensor] | None = None) -> None:
        """See `PerImage`."""
        if lab is None:
            super().update(prediction, target)
        else:
            self.seen.append(self.per_lab(*lab))

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`."""
        return self.per_lab(rgb_to_lab(prediction), rgb_to_lab(target))

    @abstractmethod
    def per_lab(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Works out the values, (N,), of images in CIELAB, (N, 3, H, W)."""


def update_all(metrics: Iterable[PerImage], prediction: Tensor, target: Tensor) -> None:
    """Updates several metrics with a batch of images, (N, 3, H, W) in [0, 1], converted to CIELAB once."""
    listed = list(metrics)
    convert = any(isinstance(metric, LabMetric) for metric in listed)
    lab = (rgb_to_lab(prediction), rgb_to_lab(target)) if convert else None
    for metric in listed:
        metric.update(prediction, target, lab)


class PSNR(PerImage):
    """Peak signal-to-noise ratio over all pixels and channels of an image, in dB; infinite if exact.

    >>> metric = PSNR()
    >>> metric.update(torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.6))
    >>> round(metric.compute().item(), 4)
    20.0
    """

    higher_is_better = True

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`."""
        return peak_signal_noise_ratio(prediction, target, data_range=1.0, dim=(1, 2, 3), reduction="none")


class SSIM(PerImage):
    """Structural similarity (Wang et al. 2004): 11x11 Gaussian window, sigma 1.5, mean over channels.

    Over the positions where the window lies inside the image, like the literature and scikit-image with
    `gaussian_weights=True, use_sample_covariance=False`; torchmetrics averages the padded border too.
    """

    higher_is_better = True

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`; sides of at least 11 pixels."""
        self.check(target)
        return ssim(prediction, target)

    @classmethod
    def check(cls, images: Tensor) -> None:
        """See `PerImage`."""
        height, width = images.shape[-2:]
        if min(height, width) < 11:
            raise UserError(
                f"SSIM of {width}x{height} images is not defined: its window is 11x11. Expected sides of at least 11; "
                "in training choose another size=."
            )


def ssim(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean SSIM of each image, (N,), in the precision of the arguments; see `SSIM`.

    Args:
        first: (N, C, H, W) in [0, 1], sides of at least 11 pixels.
        second: The same shape.
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
    """PSNR of the luma alone, in dB; infinite where all that differs is float32's rounding (over 120 dB).

    >>> metric = PSNRLuma()
    >>> gray = torch.full((1, 3, 4, 4), 0.5)
    >>> metric.update(gray + 1e-7, gray)
    >>> metric.compute().item()
    inf
    """

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`."""
        psnr = super().per_image(luma(prediction), luma(target))
        return psnr.where(psnr < 120, torch.inf)


class PSNRY(PSNR):
    """PSNR of the literature's Y, in dB: BT.601 in its studio range, 16 to 235 of 255, in float64.

    So it lies 20 log10(255 / 219) = 1.32 dB above `PSNRLuma`.

    >>> metric = PSNRY()
    >>> metric.update(torch.full((1, 3, 4, 4), 0.5), torch.full((1, 3, 4, 4), 0.6))
    >>> round(metric.compute().item(), 3)
    21.322
    """

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`."""
        return super().per_image(_studio_y(prediction), _studio_y(target))


class SSIMY(SSIM):
    """SSIM of the literature's Y, see `PSNRY`."""

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `SSIM`."""
        return super().per_image(_studio_y(prediction), _studio_y(target))


def _studio_y(rgb: Tensor) -> Tensor:
    red, green, blue = rgb.double().split(1, dim=1)
    return (16 + 65.481 * red + 128.553 * green + 24.966 * blue) / 255


# -- colour ---------------------------------------------------------------------------------------------


class ABRMSE(LabMetric):
    """Root of the mean squared error of a* and b*, over both and all pixels of an image.

    Its square is the sum of the squares of `Tint`, `Patches` and `Detail`.
    """

    higher_is_better = False

    def per_lab(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `LabMetric`."""
        return _rms(prediction[:, 1:] - target[:, 1:])


class Tint(LabMetric):
    """The part of the a*, b* error that is the same all over the image: its mean, root mean square of a* and b*."""

    higher_is_better = False

    def per_lab(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `LabMetric`."""
        return _rms((prediction[:, 1:] - target[:, 1:]).mean((2, 3), keepdim=True))


class Patches(LabMetric):
    """Unevenness: how far the mean a*, b* error of the cells of an 8x8 grid lies from the image's, root mean square.

    Raises:
        UserError: 8 does not divide a side.
    """

    higher_is_better = False

    @classmethod
    def check(cls, images: Tensor) -> None:
        """See `PerImage`."""
        check_grid(images)

    def per_lab(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `LabMetric`."""
        error = prediction[:, 1:] - target[:, 1:]
        return _rms(_cell_means(error) - error.mean((2, 3), keepdim=True))


class Detail(LabMetric):
    """The a*, b* error within the cells of an 8x8 grid: the error less the cells' means, root mean square.

    Raises:
        UserError: 8 does not divide a side.
    """

    higher_is_better = False

    @classmethod
    def check(cls, images: Tensor) -> None:
        """See `PerImage`."""
        check_grid(images)

    def per_lab(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `LabMetric`."""
        error = prediction[:, 1:] - target[:, 1:]
        cells = _cell_means(error)
        height, width = error.shape[2] // GRID, error.shape[3] // GRID
        return _rms(error - cells.repeat_interleave(height, 2).repeat_interleave(width, 3))


def check_grid(images: Tensor) -> None:
    """Check that `Patches` and `Detail` are defined.

    Raises:
        UserError: 8 does not divide a side.
    """
    height, width = images.shape[-2:]
    if height % GRID or width % GRID:
        raise UserError(
            f"{width}x{height} images: the color error is split on a grid of {GRID}x{GRID} cells. Expected sides that "
            f"are multiples of {GRID}; in training choose another size=."
        )


def _cell_means(error: Tensor) -> Tensor:
    check_grid(error)
    return F.avg_pool2d(error, (error.shape[2] // GRID, error.shape[3] // GRID))


def _rms(error: Tensor) -> Tensor:
    return error.square().mean((1, 2, 3)).sqrt()


class CIEDE2000(LabMetric):
    """Mean colour difference CIEDE2000 over the pixels of an image; 1 is about what an eye can tell apart."""

    higher_is_better = False

    def per_lab(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `LabMetric`."""
        return ciede2000(prediction, target).mean((1, 2, 3))


def ciede2000(first: Tensor, second: Tensor) -> Tensor:
    """Colour difference CIEDE2000 (CIE 142-2001; Sharma, Wu, Dalal 2005), with kL = kC = kH = 1.

    Args:
        first: (N, 3, H, W) in CIELAB.
        second: The same shape.

    Returns:
        (N, 1, H, W), not negative.
    """
    (l1, a1, b1), (l2, a2, b2) = first.split(1, 1), second.split(1, 1)
    chroma7 = ((torch.hypot(a1, b1) + torch.hypot(a2, b2)) / 2) ** 7
    stretch = 1.5 - 0.5 * (chroma7 / (chroma7 + 25.0**7)).sqrt()
    a1, a2 = stretch * a1, stretch * a2
    c1, c2 = torch.hypot(a1, b1), torch.hypot(a2, b2)
    h1, h2 = (torch.atan2(b, a).remainder(2 * torch.pi) for a, b in ((a1, b1), (a2, b2)))
    both = (c1 > 0) & (c2 > 0)
    turn = h2 - h1
    turn = turn - 2 * torch.pi * turn.sign() * (turn.abs() > torch.pi)  # the shorter way round
    turn = torch.where(both, turn, torch.zeros_like(turn))
    # Halfway; where one colour is gray, its angle is 0 and the sum is the other's.
    hue = torch.where(both, h1 + turn / 2, h1 + h2)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    weight = (
        1
        - 0.17 * torch.cos(hue - _radians(30))
        + 0.24 * torch.cos(2 * hue)
        + 0.32 * torch.cos(3 * hue + _radians(6))
        - 0.20 * torch.cos(4 * hue - _radians(63))
    )
    from_middle = (lightness - 50).square()
    delta_l = (l2 - l1) / (1 + 0.015 * from_middle / (20 + from_middle).sqrt())
    delta_c = (c2 - c1) / (1 + 0.045 * chroma)
    delta_h = 2 * (c1 * c2).sqrt() * torch.sin(turn / 2) / (1 + 0.015 * chroma * weight)
    degrees = torch.rad2deg(hue).remainder(360)
    blue = _radians(60) * torch.exp(-(((degrees - 275) / 25) ** 2))
    chroma7 = chroma**7
    rotation = -2 * (chroma7 / (chroma7 + 25.0**7)).sqrt() * torch.sin(blue)
    squared = delta_l.square() + delta_c.square() + delta_h.square() + rotation * delta_c * delta_h
    return squared.clamp(min=0).sqrt()


def _radians(degrees: float) -> float:
    return degrees * torch.pi / 180


class Colourfulness(PerImage):
    """Colourfulness M3 of the prediction (Hasler and Süsstrunk 2003), of the range 0 to 255.

    From the signed opponents R - G and (R + G) / 2 - B; papers that take their absolute values report something else.
    """

    higher_is_better = None

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`."""
        return colourfulness(prediction)


class ColourfulnessRatio(PerImage):
    """Colourfulness of the prediction over that of the target: below 1 is duller, above 1 more garish.

    1 where both are gray; infinite, and so left out of the mean, where only the target is.
    """

    higher_is_better = None

    def per_image(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `PerImage`."""
        own, true = colourfulness(prediction), colourfulness(target)
        gray = true < 1e-3
        return torch.where(gray, torch.where(own < 1e-3, 1.0, torch.inf), own / true.clamp(min=1e-3))


def colourfulness(images: Tensor) -> Tensor:
    """Colourfulness M3 (Hasler and Süsstrunk 2003) of images (N, 3, H, W) in [0, 1], for the range 0 to 255: (N,)."""
    red, green, blue = (255 * images).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], 1)
    spread = opponents.var((2, 3), correction=0).sum(1).sqrt()
    return spread + 0.3 * opponents.mean((2, 3)).square().sum(1).sqrt()


class HueError(LabMetric):
    """Mean angle between the hues of prediction and target, in degrees, weighted by the target's chroma.

    A gray pixel of the prediction counts as 90, which a hue drawn by lot has on average. 0 for a gray target.
    """

    higher_is_better = False

    def per_lab(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `LabMetric`."""
        (a1, b1), (a2, b2) = prediction[:, 1:].unbind(1), target[:, 1:].unbind(1)
        angle = torch.rad2deg(torch.atan2((a1 * b2 - b1 * a2).abs(), a1 * a2 + b1 * b2))
        angle = torch.where(torch.hypot(a1, b1) < GRAY_CHROMA, 90.0, angle)
        chroma = torch.hypot(a2, b2)
        chroma = torch.where(chroma < GRAY_CHROMA, 0.0, chroma)
        return (angle * chroma).sum((1, 2)) / chroma.sum((1, 2)).clamp(min=1e-6)


# -- registry -------------------------------------------------------------------------------------------

METRICS: dict[str, type[PerImage]] = {
    "psnr": PSNR,
    "ssim": SSIM,
    "psnr_luma": PSNRLuma,
    "psnr_y": PSNRY,
    "ssim_y": SSIMY,
    "psnr_rgb": PSNR,
    "ab_rmse": ABRMSE,
    "ciede2000": CIEDE2000,
    "colourfulness": Colourfulness,
    "colourfulness_ratio": ColourfulnessRatio,
    "hue_error": HueError,
    "tint": Tint,
    "patches": Patches,
    "detail": Detail,
}


def higher_is_better(monitor: str) -> bool:
    """Return whether more is better of a figure that checkpoints can be chosen by, `val/psnr`.

    Raises:
        UserError: There is no such metric, or more of it is neither better nor worse.
    """
    metric = METRICS.get(monitor.removeprefix("val/"))
    if metric is None or metric.higher_is_better is None:
        ranked = ", ".join(f"val/{name}" for name, other in METRICS.items() if other.higher_is_better is not None)
        problem = "no such metric" if metric is None else "more of it is neither better nor worse"
        raise UserError(f"monitor={monitor}: {problem}. Expected one of {ranked}.")
    return metric.higher_is_better
