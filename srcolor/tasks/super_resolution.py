"""Super-resolution: from a small image to the large one it was computed from."""

from typing import ClassVar

from srcolor.tasks.adversarial import AdversarialTask


class SuperResolutionTask(AdversarialTask):
    """Train and evaluate a super-resolution network; see `AdversarialTask` for the arguments.

    PSNR and SSIM prefer blur, `texture` and `lpips` sharpness. The latter two are only meaningful for predictions that
    agree with their input, which `consistency` shows.
    """

    default_measures: ClassVar[tuple[str, ...]] = ("psnr", "ssim", "texture", "consistency", "band_energy", "lpips")
    default_validated: ClassVar[tuple[str, ...]] = ("psnr", "ssim", "texture", "band_energy")
    adversarial_measures: ClassVar[tuple[str, ...]] = ("checkerboard",)
