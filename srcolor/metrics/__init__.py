"""Metrics of images and segmentations: one `Measure` each, which returns the value of every image, or of a whole set.

A measure is the only place that defines how its metric is named, rounded and ranked.
"""

import functools
import logging
from collections.abc import Iterable

from srcolor.errors import UserError
from srcolor.metrics.base import Measure, SetMeasure, Values, mean, measure
from srcolor.metrics.color import (
    ABRMSE,
    CIEDE2000,
    Colorfulness,
    ColorfulnessRatio,
    Detail,
    HueError,
    Palette,
    Patches,
    Spread,
    Tint,
    ciede2000,
)
from srcolor.metrics.perceptual import LPIPS, BandEnergy, Checkerboard, Texture
from srcolor.metrics.quality import PSNR, PSNRRGB, PSNRY, SSIM, SSIMY, Consistency, PSNRLuma, ssim
from srcolor.metrics.segmentation import HD95, BoundaryF1At1, BoundaryF1At2, Dice, HD95Infinite, IoU, one_hot

__all__ = [
    "MEASURES",
    "Measure",
    "SetMeasure",
    "Values",
    "available",
    "ciede2000",
    "higher_is_better",
    "mean",
    "measure",
    "one_hot",
    "ssim",
]

log = logging.getLogger(__name__)


MEASURES: dict[str, type[Measure]] = {
    metric.name: metric
    for metric in (
        *(PSNR, SSIM, PSNRLuma, PSNRRGB, PSNRY, SSIMY),
        *(ABRMSE, CIEDE2000, Colorfulness, ColorfulnessRatio, HueError, Tint, Patches, Detail, Palette, Spread),
        *(Texture, Consistency, BandEnergy, Checkerboard, LPIPS),
        *(Dice, IoU, BoundaryF1At1, BoundaryF1At2, HD95, HD95Infinite),
    )
}


def available(names: Iterable[str]) -> list[str]:
    """Return the measures that this machine has the files for; log those that are left out, and why."""
    return [name for name in names if not _left_out(name)]


@functools.cache  # one line per process, however many tasks it builds
def _left_out(name: str) -> bool:
    missing = MEASURES[name].missing()
    if missing is not None:
        log.info("Skipping %s. %s", name, missing)
    return missing is not None


def higher_is_better(monitor: str) -> bool:
    """Return whether a higher value of a monitored metric, `val/psnr`, is better.

    Raises:
        UserError: If there is no such metric, it measures a whole set, or a higher value is neither better nor worse.
    """
    ranked = {
        f"val/{name}": metric.higher_is_better
        for name, metric in MEASURES.items()
        if metric.higher_is_better is not None and not issubclass(metric, SetMeasure)
    }
    if monitor not in ranked:
        problem = "a higher value is neither better nor worse, or it measures a whole set"
        if monitor.removeprefix("val/") not in MEASURES:
            problem = "no such metric"
        raise UserError(f"monitor={monitor}: {problem}. Expected one of {', '.join(ranked)}.")
    return ranked[monitor]
