"""Colorization: from a gray image to a colour image of the same size or, by a chain, a larger one."""

from typing import Any, ClassVar

from srcolor.metrics import METRICS
from srcolor.tasks.base import Task

FITTED_ON = 2000  # training images, at most, that a baseline is fitted on


class ColorizationTask(Task):
    """Train and evaluate a network that colorizes; see `Task` for its arguments.

    PSNR prefers uniform brown, and SSIM prefers gray, to colours that are real but not the image's own. So the
    baselines are what can be had without a network; those that have a method `fit` are fitted on the
    training split.
    """

    metrics: ClassVar = {
        name: METRICS[name]
        for name in "psnr ssim psnr_luma ab_rmse ciede2000 colourfulness colourfulness_ratio hue_error tint patches "
        "detail".split()
    }
    validated = ("psnr", "ssim", "ab_rmse", "colourfulness_ratio")

    def setup(self, stage: str) -> None:
        """Fits the baselines."""
        self.fit_baselines(self.trainer.datamodule)  # type: ignore[attr-defined]

    def fit_baselines(self, data: Any) -> None:
        """Fits the baselines on a datamodule's training split."""
        for baseline in self.baselines.values():
            if (fit := getattr(baseline, "fit", None)) is not None:
                fit(data.pairs("train", FITTED_ON))
