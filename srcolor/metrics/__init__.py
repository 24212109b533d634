"""Metrics of restored images: one `Measure` each, which returns the value of every image.

A measure is the only place that defines how its metric is named, rounded and ranked.
"""

from srcolor.errors import UserError
from srcolor.metrics.base import Measure, Values, mean, measure
from srcolor.metrics.color import (
    ABRMSE,
    CIEDE2000,
    Colorfulness,
    ColorfulnessRatio,
    Detail,
    HueError,
    Patches,
    Tint,
    ciede2000,
)
from srcolor.metrics.quality import PSNR, PSNRRGB, PSNRY, SSIM, SSIMY, PSNRLuma, ssim

__all__ = ["MEASURES", "Measure", "Values", "ciede2000", "higher_is_better", "mean", "measure", "ssim"]

MEASURES: dict[str, type[Measure]] = {
    metric.name: metric
    for metric in (
        *(PSNR, SSIM, PSNRLuma, PSNRRGB, PSNRY, SSIMY),
        *(ABRMSE, CIEDE2000, Colorfulness, ColorfulnessRatio, HueError, Tint, Patches, Detail),
    )
}


def higher_is_better(monitor: str) -> bool:
    """Return whether a higher value of a monitored metric, `val/psnr`, is better.

    Raises:
        UserError: If there is no such metric, or a higher value is neither better nor worse.
    """
    metric = MEASURES.get(monitor.removeprefix("val/"))
    if metric is None or metric.higher_is_better is None:
        ranked = ", ".join(f"val/{name}" for name, other in MEASURES.items() if other.higher_is_better is not None)
        problem = "no such metric" if metric is None else "a higher value is neither better nor worse"
        raise UserError(f"monitor={monitor}: {problem}. Expected one of {ranked}.")
    return metric.higher_is_better
