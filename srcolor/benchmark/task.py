"""Super-resolution by the standard benchmark protocol."""

from torch import Tensor

from srcolor.images import Pair, to_uint8
from srcolor.tasks.super_resolution import SuperResolutionTask


class BenchmarkTask(SuperResolutionTask):
    """Evaluate a super-resolution network by the standard benchmark protocol.

    See `AdversarialTask` for the arguments.

    The prediction is rounded to bytes, and a border of `scale` pixels is cropped. PSNR and SSIM are computed on Y, and
    PSNR also on RGB.
    """

    default_measures = ("psnr_y", "ssim_y", "psnr_rgb")
    default_validated = ()
    adversarial_measures = ()

    def metric_inputs(self, prediction: Tensor, batch: Pair) -> tuple[Tensor, Tensor]:
        """See `Task`."""
        border = batch.target.shape[-1] // batch.input.shape[-1]
        inner = (..., slice(border, -border), slice(border, -border))
        return (to_uint8(prediction).double() / 255)[inner], batch.target.double()[inner]
