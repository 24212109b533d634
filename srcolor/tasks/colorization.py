"""Colorization: from a gray image to a color image of the same size or, by a chain, a larger one."""

from typing import Any

from srcolor.tasks.adversarial import FITTED_ON, AdversarialTask


class ColorizationTask(AdversarialTask):
    """Train and evaluate a network that colorizes; see `AdversarialTask` for the arguments.

    PSNR prefers uniform brown, and SSIM prefers gray, to plausible colors that differ from the true ones. The
    baselines show the metrics of color without a network. Those with a method `fit` are fitted on the training split.
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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `AdversarialTask`; rename the baseline `mean_color`, which older versions call `mean_colour`."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            key.replace("baselines.mean_colour.", "baselines.mean_color."): state[key] for key in state
        }

    def fit_baselines(self, data: Any) -> None:
        """Fit the baselines on a datamodule's training split."""
        for baseline in self.baselines.values():
            if (fit := getattr(baseline, "fit", None)) is not None:
                fit(data.pairs("train", FITTED_ON))
