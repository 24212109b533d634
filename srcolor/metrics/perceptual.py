"""Sharpness metrics: how much fine structure a prediction has, regardless of exactly where its edges lie.

PSNR and SSIM compare pixel by pixel, so they prefer the blurred mean of all plausible images. Report `Texture` and
`LPIPS` only with `quality.Consistency`: both also fall when an image has more contrast than its input allows.
"""

import pickle
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from srcolor.errors import UserError
from srcolor.images import luma
from srcolor.metrics.base import Measure

WINDOW, STRIDE = 8, 4  # of `Texture`, in pixels
FLAT = 1e-5  # mean gradient of an image without texture
FLOOR = 1e-12  # mean square of a band, added to both sides of a ratio; that of rounding to bytes is 1.3e-6
BACKBONE = "squeezenet1_1-b8a52dc0.pth"


class Texture(Measure):
    """Error of the amount of local texture, relative to the mean amount in the target.

    The amount of texture is the mean gradient magnitude of the luma, by forward differences, in windows of 8x8 pixels,
    stride 4. The value is the mean absolute difference over the windows, divided by the mean over the target. Invented
    detail is right if there is as much of it in the same place; blur and noise are errors. More contrast than the input
    allows may also improve the value, so it is only meaningful together with `Consistency`.

    0 if both images are flat; infinite, and so left out of the mean, if only the target is.
    """

    name = "texture"
    heading = "texture error"
    digits = 3
    higher_is_better = False

    @classmethod
    def check(cls, images: Tensor) -> None:
        """See `Measure`."""
        _check_sides(images, "texture", WINDOW + 1)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`; sides of at least 9 pixels."""
        self.check(target)
        predicted, true = _texture(prediction), _texture(target)
        error, amount = (predicted - true).abs().mean((1, 2, 3)), true.mean((1, 2, 3))
        only_target = torch.where(error < FLAT, 0.0, torch.inf)
        return torch.where(amount < FLAT, only_target, error / amount.clamp(min=FLAT))


def _texture(images: Tensor) -> Tensor:
    gray = _luma(images)
    corner = gray[..., :-1, :-1]
    gradient = torch.hypot(gray[..., :-1, 1:] - corner, gray[..., 1:, :-1] - corner)
    return F.avg_pool2d(gradient, WINDOW, STRIDE)


class BandEnergy(Measure):
    """Energy of the luma at 0.26 to 0.5 cycles per pixel, prediction over target, in dB: 0 is right.

    Negative values indicate blur, positive ones noise or ringing. At scale 2, 0.25 is the highest frequency that the
    low-resolution image has along a row. The mean is subtracted, and a Hann window suppresses the border.
    """

    name = "band_energy"
    heading = "band energy (dB)"
    digits = 2
    higher_is_better = None

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        return 10 * ((self._energy(prediction) + FLOOR) / (self._energy(target) + FLOOR)).log10()

    def _energy(self, images: Tensor) -> Tensor:
        gray = _luma(images)[:, 0]
        height, width = gray.shape[-2:]
        rows, columns = (torch.hann_window(n, dtype=gray.dtype, device=gray.device)[:, None] for n in (height, width))
        power = torch.fft.fft2((gray - gray.mean((1, 2), keepdim=True)) * rows * columns.T).abs().square()
        vertical = torch.fft.fftfreq(height, device=gray.device)[:, None].abs()
        horizontal = torch.fft.fftfreq(width, device=gray.device).abs()
        return (power * self.band(vertical, horizontal)).sum((1, 2)) / (height * width) ** 2

    def band(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """Return which frequencies count, (H, W) bool.

        Args:
            vertical: (H, 1) in cycles per pixel, from 0 to 0.5.
            horizontal: (W,), the same.
        """
        radius = torch.hypot(vertical, horizontal)
        return (radius >= 0.26) & (radius <= 0.5)


class Checkerboard(BandEnergy):
    """Energy of the luma within 1/16 cycles per pixel of (1/2, 1/2), prediction over target, in dB.

    At that frequency, black and white pixels alternate in both directions. A network that ends in a 2x pixel shuffle
    may produce this pattern: more than 3 dB (twice the target's energy) is a sign of it; far below 0, there is none.
    """

    name = "checkerboard"
    heading = "checkerboard (dB)"

    def band(self, vertical: Tensor, horizontal: Tensor) -> Tensor:
        """See `BandEnergy`."""
        return torch.hypot(0.5 - vertical, 0.5 - horizontal) <= 1 / 16


class LPIPS(Measure):
    """Learned perceptual image patch similarity (Zhang et al. 2018), with torchmetrics' heads for SqueezeNet 1.1.

    It requires torchvision's SqueezeNet weights on disk, and never downloads them. More contrast than the input allows
    improves it, so report it together with `Consistency`.

    Raises:
        UserError: If the weights are missing or damaged.
    """

    name = "lpips"
    heading = "LPIPS"
    digits = 4
    higher_is_better = False

    def __init__(self) -> None:
        super().__init__()
        if (missing := self.missing()) is not None:
            raise UserError(missing)
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # see `PSNR`

        try:
            # torchmetrics' metric returns one mean; its network has the value of each image.
            self.net = LearnedPerceptualImagePatchSimilarity(net_type="squeeze", normalize=True).net
        except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
            raise UserError(f"LPIPS: {backbone()} is damaged: {error}. Replace it, or remove it.") from error

    @classmethod
    def missing(cls) -> str | None:
        """See `Measure`."""
        if backbone().is_file():
            return None
        return (
            f"LPIPS needs torchvision's weights of SqueezeNet 1.1. Put {BACKBONE} into {backbone().parent}, or set "
            f"TORCH_HOME to a folder with hub/checkpoints/{BACKBONE}; see docs/metrics.md."
        )

    @classmethod
    def check(cls, images: Tensor) -> None:
        """See `Measure`."""
        _check_sides(images, "LPIPS", 17)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`; sides of at least 17 pixels."""
        self.check(target)
        first, second = (images.float().expand(-1, 3, -1, -1) for images in (prediction, target))
        return self.net(first, second, normalize=True).flatten()


def backbone() -> Path:
    """Return the file of the weights that `LPIPS` needs; torchvision reads it there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / BACKBONE


def _luma(images: Tensor) -> Tensor:
    return images if images.shape[1] == 1 else luma(images)


def _check_sides(images: Tensor, name: str, least: int) -> None:
    height, width = images.shape[-2:]
    if min(height, width) < least:
        raise UserError(
            f"{name} of {width}x{height} images is not defined. Expected sides of at least {least}; in training, use a "
            "larger size=."
        )
