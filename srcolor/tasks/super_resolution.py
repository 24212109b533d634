"""Super-resolution: from a small image to the large one it was computed from."""

from srcolor.tasks.base import Task


class SuperResolutionTask(Task):
    """Train and evaluate a super-resolution network, by PSNR and SSIM over RGB; see `Task` for the arguments."""
