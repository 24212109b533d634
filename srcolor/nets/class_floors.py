"""Segmentation without a network: the baselines of segmentation."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from srcolor import images
from srcolor.errors import check_range
from srcolor.images import Pair
from srcolor.nets import Net

LOGIT = 10.0  # logit of the predicted class; that of the others is 0
LEVELS = 256


def floors(classes: int, scale: int = 1) -> dict[str, Net]:
    """Return the baselines of segmentation by name: `all_background` and, for two classes, `otsu`, not fitted yet.

    Args:
        classes: Number of classes.
        scale: Integer factor by which the classes are enlarged.
    """
    baselines: dict[str, Net] = {"all_background": Background(classes, scale)}
    return baselines | {"otsu": Otsu(scale)} if classes == 2 else baselines


class Background(Net):
    """Predict class 0 everywhere.

    Args:
        classes: Number of classes.
        scale: Integer factor by which the classes are enlarged.
    """

    inputs = None
    logits = True
    stride = 1
    receptive_field = 1

    def __init__(self, classes: int, scale: int = 1) -> None:
        super().__init__()
        check_range("classes", classes, 2)
        check_range("scale", scale, 1)
        self.outputs: int = classes
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to logits, (N, classes, scale * H, scale * W)."""
        numbers = torch.zeros(len(x), *(self.scale * side for side in x.shape[-2:]), dtype=torch.long, device=x.device)
        return LOGIT * F.one_hot(numbers, self.outputs).permute(0, 3, 1, 2).to(x.dtype)


class Otsu(Net):
    """Predict class 1 on one side of a luma threshold: that of Otsu 1979, and the side with more of the class.

    Args:
        scale: Integer factor by which the classes are enlarged.
    """

    inputs = 3
    outputs = 2
    logits = True
    stride = 1
    receptive_field = 1

    def __init__(self, scale: int = 1) -> None:
        super().__init__()
        check_range("scale", scale, 1)
        self.scale = scale
        self.threshold: Tensor
        self.dark: Tensor
        self.register_buffer("threshold", torch.tensor(0.5))
        self.register_buffer("dark", torch.tensor(True))

    def fit(self, pairs: Iterable[Pair]) -> None:
        """Fit the threshold and the side to training images.

        Args:
            pairs: RGB inputs and areas of the two classes.
        """
        pixels = torch.zeros(LEVELS, dtype=torch.float64)
        areas = torch.zeros(LEVELS, 2, dtype=torch.float64)
        for pair in pairs:
            small = images.block_mean(pair.target, pair.target.shape[-1] // pair.input.shape[-1])
            level = (images.luma(pair.input) * (LEVELS - 1)).round().long().flatten()
            pixels += torch.bincount(level, minlength=LEVELS)
            areas.index_add_(0, level, small.permute(0, 2, 3, 1).reshape(-1, 2).double())
        threshold = otsu(pixels)
        below, above = (part.sum(0) for part in (areas[:threshold], areas[threshold:]))
        self.threshold.fill_((threshold - 0.5) / (LEVELS - 1))
        self.dark.fill_(bool(below[1] * above.sum() >= above[1] * below.sum()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) in [0, 1] to logits, (N, 2, scale * H, scale * W)."""
        foreground = (images.luma(x) < self.threshold) == self.dark
        logits = LOGIT * torch.cat([~foreground, foreground], 1).to(x.dtype)
        return F.interpolate(logits, scale_factor=self.scale, mode="nearest")


def otsu(histogram: Tensor) -> int:
    """Return the first level of the upper class of a histogram that maximizes the variance between both classes.

    Args:
        histogram: Counts of the levels, (K,), of at least two levels.

    >>> otsu(torch.tensor([5, 5, 0, 0, 0, 3]))
    2
    """
    counts = histogram.double()
    level = torch.arange(len(counts), dtype=torch.float64)
    below, total = counts.cumsum(0)[:-1], counts.sum()
    sums, overall = (counts * level).cumsum(0)[:-1], (counts * level).sum()
    above = total - below
    between = (sums * total - overall * below).square() / (below * above).clamp(min=1)
    return int(between.argmax()) + 1
