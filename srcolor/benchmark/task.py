"""Super-resolution as the tables of the literature measure it."""

from typing import ClassVar

from torch import Tensor

from srcolor.images import Pair, to_uint8
from srcolor.metrics import PSNR, PSNRY, SSIMY
from srcolor.tasks.base import Task


class BenchmarkTask(Task):
    """Judges a network that enlarges by the protocol of the literature; see `Task` for its arguments.

    The answer is rounded to bytes, as many pixels as the scale says are cut off at every side, and PSNR and SSIM
    are those of Y; PSNR over RGB stands beside them.
    """

    metrics: ClassVar = {"psnr_y": PSNRY, "ssim_y": SSIMY, "psnr_rgb": PSNR}
    validated = ()

    def compared(self, answer: Tensor, batch: Pair) -> tuple[Tensor, Tensor]:
        """See `Task`."""
        border = batch.target.shape[-1] // batch.input.shape[-1]
        inner = (..., slice(border, -border), slice(border, -border))
        return (to_uint8(answer).double() / 255)[inner], batch.target.double()[inner]
