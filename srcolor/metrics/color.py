"""Color metrics: the error of a* and b* and its parts, CIEDE2000, hue, colorfulness, and the palette of a set.

Measures whose `space` is `lab` take CIELAB images; errors of a* and b* are in CIELAB units.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from srcolor.errors import UserError
from srcolor.metrics.base import Measure, SetMeasure

GRID = 8  # patches are the cells of a grid with this many rows and columns
PALETTE_BIN = 10  # width of the bins of a* and b*; the middles are multiples of it, so gray is inside a bin
PALETTE_SIDE = 23  # bins of a* and of b*, with middles from -110 to 110: all of sRGB
GRAY_CHROMA = 0.01  # a pixel with less chroma has no hue; kornia's grays have up to 0.005


class ABRMSE(Measure):
    """Root mean squared error of a* and b*, over both and all pixels of an image.

    Its square is the sum of the squares of `Tint`, `Patches` and `Detail`.
    """

    name = "ab_rmse"
    heading = "ab-RMSE (CIELAB)"
    digits = 3
    higher_is_better = False
    space = "lab"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        return _rms(prediction[:, 1:] - target[:, 1:])


class Tint(ABRMSE):
    """The constant part of the a*, b* error: root mean square of its means over the image."""

    name = "tint"
    heading = "tint (CIELAB)"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        return _rms((prediction[:, 1:] - target[:, 1:]).mean((2, 3), keepdim=True))


class Patches(ABRMSE):
    """Unevenness: RMS of the mean a*, b* errors of the cells of an 8x8 grid, minus the mean error of the image.

    Raises:
        UserError: If a side is not a multiple of 8.
    """

    name = "patches"
    heading = "patches (CIELAB)"

    @classmethod
    def check(cls, images: Tensor) -> None:
        """See `Measure`."""
        height, width = images.shape[-2:]
        if height % GRID or width % GRID:
            raise UserError(
                f"{width}x{height} images: the color error is split on a grid of {GRID}x{GRID} cells. Expected sides "
                f"that are multiples of {GRID}; in training use a different size=."
            )

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        error = prediction[:, 1:] - target[:, 1:]
        return _rms(self.cell_means(error) - error.mean((2, 3), keepdim=True))

    def cell_means(self, error: Tensor) -> Tensor:
        """Return the means of the cells of the grid, (N, C, 8, 8)."""
        self.check(error)
        return F.avg_pool2d(error, (error.shape[2] // GRID, error.shape[3] // GRID))


class Detail(Patches):
    """The a*, b* error within the cells of an 8x8 grid: RMS of the error minus the cell means.

    Raises:
        UserError: If a side is not a multiple of 8.
    """

    name = "detail"
    heading = "detail (CIELAB)"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        error = prediction[:, 1:] - target[:, 1:]
        height, width = error.shape[2] // GRID, error.shape[3] // GRID
        return _rms(error - self.cell_means(error).repeat_interleave(height, 2).repeat_interleave(width, 3))


def _rms(error: Tensor) -> Tensor:
    return error.square().mean((1, 2, 3)).sqrt()


class Spread(Measure):
    """How much the colorings of an image differ: root mean square of the a*, b* differences between two of them.

    It compares no prediction with a target, so it cannot be in `task.measures`; the task of color codes computes it for
    its samples.

    Raises:
        UserError: If there is one prediction per image.
    """

    name = "spread"
    heading = "spread (CIELAB)"
    digits = 3
    higher_is_better = None
    space = "lab"

    @classmethod
    def check(cls, images: Tensor) -> None:
        """See `Measure`; for the samples of each image, (N, S, 3, H, W)."""
        if images.ndim != 5:
            raise UserError(
                "spread requires several colorings per image. Remove it from task.measures; "
                "experiment=colorize64_codes always computes it."
            )

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the spread of each image, (N,), for its samples, (N, S, 3, H, W); the target is ignored."""
        self.check(prediction)
        return (2 * prediction[:, :, 1:].var(1).mean((1, 2, 3))).sqrt()


class CIEDE2000(Measure):
    """Mean color difference CIEDE2000 over the pixels of an image; 1 is about the smallest visible difference."""

    name = "ciede2000"
    heading = "CIEDE2000"
    digits = 3
    higher_is_better = False
    space = "lab"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        return ciede2000(prediction, target).mean((1, 2, 3))


def ciede2000(first: Tensor, second: Tensor) -> Tensor:
    """Return the color difference CIEDE2000 (CIE 142-2001; Sharma, Wu, Dalal 2005), with kL = kC = kH = 1.

    Args:
        first: (N, 3, H, W) in CIELAB.
        second: Same shape as `first`.

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
    # The mean hue; the angle of a gray color is 0, so the sum is the angle of the other color.
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


class Colorfulness(Measure):
    """Colorfulness M3 of the prediction (Hasler and Süsstrunk 2003), for the range 0 to 255.

    From the signed opponents R - G and (R + G) / 2 - B; papers that take their absolute values report a different
    quantity.
    """

    name = "colorfulness"
    heading = "colorfulness"
    digits = 2
    higher_is_better = None

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        return colorfulness(prediction)


class ColorfulnessRatio(Measure):
    """Ratio of the colorfulness of prediction and target: below 1 is duller, above 1 more vivid.

    1 if both are gray; infinite, and thus excluded from the mean, if only the target is gray.
    """

    name = "colorfulness_ratio"
    heading = "colorfulness ratio"
    digits = 3
    higher_is_better = None

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        predicted, true = colorfulness(prediction), colorfulness(target)
        ratio = predicted / true.clamp(min=1e-3)
        return torch.where(true < 1e-3, torch.where(predicted < 1e-3, 1.0, torch.inf), ratio)


def colorfulness(images: Tensor) -> Tensor:
    """Return the colorfulness M3 (Hasler and Süsstrunk 2003), (N,), for the range 0 to 255.

    Args:
        images: (N, 3, H, W) in [0, 1].
    """
    red, green, blue = (255 * images).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], 1)
    spread = opponents.var((2, 3), correction=0).sum(1).sqrt()
    return spread + 0.3 * opponents.mean((2, 3)).square().sum(1).sqrt()


class HueError(Measure):
    """Mean angle between the hues of prediction and target, in degrees, weighted by the target's chroma.

    A gray pixel in the prediction counts as 90 degrees, the mean for a random hue. 0 for a gray target.
    """

    name = "hue_error"
    heading = "hue error (degrees)"
    digits = 2
    higher_is_better = False
    space = "lab"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        (a1, b1), (a2, b2) = prediction[:, 1:].unbind(1), target[:, 1:].unbind(1)
        angle = torch.rad2deg(torch.atan2((a1 * b2 - b1 * a2).abs(), a1 * a2 + b1 * b2))
        angle = torch.where(torch.hypot(a1, b1) < GRAY_CHROMA, 90.0, angle)
        chroma = torch.hypot(a2, b2)
        chroma = torch.where(chroma < GRAY_CHROMA, 0.0, chroma)
        return (angle * chroma).sum((1, 2)) / chroma.sum((1, 2)).clamp(min=1e-6)


class Palette(SetMeasure):
    """Jensen-Shannon divergence, in bits, between the a*, b* histograms of two sets: 0 if equal, 1 if disjoint.

    Predictions and targets are compared as sets, regardless of which image has which color. A color that is wrong here
    but right for another image costs nothing, while consistently dull colors are penalized. Bins are 10x10; every image
    has the same weight, whatever its size. The statistics of an image are the fractions of its pixels in each bin,
    prediction first, then target, K = 2 * 23 * 23. Small sets differ by chance: compare networks only on the same
    images.
    """

    name = "palette"
    heading = "palette (bits)"
    digits = 3
    higher_is_better = False
    space = "lab"

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `SetMeasure`."""
        return torch.cat([_palette(prediction), _palette(target)], 1)

    @staticmethod
    def result(statistics: Tensor) -> Tensor:
        """See `SetMeasure`."""
        predicted, true = statistics.double().chunk(2, -1)
        entropy = torch.special.entr(torch.stack([(predicted + true) / 2, predicted, true])).sum(-1)
        return ((entropy[0] - (entropy[1] + entropy[2]) / 2) / math.log(2)).clamp(min=0)


def _palette(lab: Tensor) -> Tensor:
    bins = (lab[:, 1:] / PALETTE_BIN).round().long() + PALETTE_SIDE // 2
    a, b = bins.clamp(0, PALETTE_SIDE - 1).flatten(2).unbind(1)
    count = PALETTE_SIDE**2
    image = torch.arange(len(lab), device=lab.device)[:, None] * count
    counts = torch.bincount((image + a * PALETTE_SIDE + b).flatten(), minlength=len(lab) * count)
    return counts.reshape(len(lab), count) / a.shape[1]
