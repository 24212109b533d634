"""Super-resolution: from a small image to the large one it was made of."""

from typing import ClassVar

from srcolor.metrics import PSNR, SSIM
from srcolor.tasks.base import Task


class SuperResolutionTask(Task):
    """Trains and judges a network that enlarges; see `Task` for its arguments.

    Logs PSNR and SSIM over RGB, of the network and of every baseline on the same images.
    """

    metrics: ClassVar = {"psnr": PSNR, "ssim": SSIM}
    validated = ("psnr", "ssim")
