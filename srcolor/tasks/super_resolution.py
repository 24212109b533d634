"""Super-resolution: from a small image to the large one it was computed from."""

from srcolor.tasks.base import Task


class SuperResolutionTask(Task):
    """Train and evaluate a network that enlarges, by PSNR and SSIM over RGB; see `Task` for the arguments."""
