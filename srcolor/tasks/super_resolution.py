"""Super-resolution: from a small image to the large one it was computed from."""

from srcolor.tasks.adversarial import AdversarialTask


class SuperResolutionTask(AdversarialTask):
    """Train and evaluate a network that enlarges, by PSNR and SSIM over RGB; see `AdversarialTask` for the arguments."""
