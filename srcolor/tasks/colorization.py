"""Colourization: from a gray image to a colour image of the same size or, by a chain, a larger one."""

from typing import Any, ClassVar

from torch import Tensor

from srcolor import metrics
from srcolor.images import Pair
from srcolor.tasks.base import Task

FITTED_ON = 2000  # training images, at most, that a baseline is fitted on


class ColorizationTask(Task):
    """Trains and judges a network that colours; see `Task` for its arguments.

    PSNR prefers uniform brown, and SSIM prefers gray, to colours that are real but not the image's own. So the
    baselines are what can be had without a network; those that have a method `fit` are fitted on the
    training split.
    """

    metrics: ClassVar = {
        "psnr": metrics.PSNR,
        "ssim": metrics.SSIM,
        "psnr_luma": metrics.PSNRLuma,
        "ab_rmse": metrics.ABRMSE,
        "ciede2000": metrics.CIEDE2000,
        "colourfulness": metrics.Colourfulness,
        "colourfulness_ratio": metrics.ColourfulnessRatio,
        "hue_error": metrics.HueError,
        "tint": metrics.Tint,
        "patches": metrics.Patches,
        "detail": metrics.Detail,
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

    def training_step(self, batch: Pair, batch_idx: int) -> Tensor:
        """See `Task`; what only the test would find out is found out here."""
        metrics.check_grid(batch.target)
        return super().training_step(batch, batch_idx)
