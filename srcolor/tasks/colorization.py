"""Colorization: from a gray image to a color image of the same size or, by a chain, a larger one."""

from typing import Any

from srcolor.tasks.adversarial import AdversarialTask


class ColorizationTask(AdversarialTask):
    """Train and evaluate a network that colorizes; see `AdversarialTask` for the arguments.

    PSNR prefers uniform brown, and SSIM prefers gray, to plausible colors that differ from the true ones. The
    baselines show the metrics of color without a network.
    """

    default_measures = (
        *("psnr", "ssim", "psnr_luma", "ab_rmse", "ciede2000", "colorfulness", "colorfulness_ratio", "hue_error"),
        *("tint", "patches", "detail", "palette", "lpips"),
    )
    default_validated = ("psnr", "ssim", "ab_rmse", "colorfulness_ratio")
    adversarial_measures = ("patches", "detail", "lpips")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See `AdversarialTask`; rename the baseline `mean_color`, which older versions call `mean_colour`."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            key.replace("baselines.mean_colour.", "baselines.mean_color."): state[key] for key in state
        }
