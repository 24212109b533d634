"""Colorization: from a gray image to a color image of the same size or, by a chain, a larger one."""

from typing import Any

from srcolor.tasks.adversarial import AdversarialTask

FITTED_ON = 2000  # maximum number of training images that a baseline is fitted on


class ColorizationTask(AdversarialTask):
    """Train and evaluate a network that colorizes; see `AdversarialTask` for the arguments.

    PSNR prefers uniform brown, and SSIM prefers gray, to colors that are plausible but not those of the image. So the
    baselines show what is reached without a network; those with a method `fit` are fitted on the training split.
    """

    default_measures = (
        *("psnr", "ssim", "psnr_luma", "ab_rmse", "ciede2000", "colorfulness", "colorfulness_ratio", "hue_error"),
        *("tint", "patches", "detail", "palette", "lpips"),
    )
    default_validated = ("psnr", "ssim", "ab_rmse", "colorfulness_ratio")
    adversarial_measures = ("patches", "detail", "lpips")

    def setup(self, stage: str) -> None:
        """Fit the baselines and, with an adversary, the critic's encoding."""
        super().setup(stage)
        self.fit_baselines(self.trainer.datamodule)  # type: ignore[attr-defined]

    def fit_baselines(self, data: Any) -> None:
        """Fit the baselines on a datamodule's training split."""
        for baseline in self.baselines.values():
            if (fit := getattr(baseline, "fit", None)) is not None:
                fit(data.pairs("train", FITTED_ON))
