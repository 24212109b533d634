"""Pure functions on batches of images, and `Pair`, the batch that the data passes to the tasks.

Images are RGB, float, in [0, 1], shaped (N, C, H, W), unless a function says otherwise.
"""

from typing import NamedTuple

import kornia
import torch
import torch.nn.functional as F
from torch import Tensor

from srcolor.errors import UserError


class Pair(NamedTuple):
    """One batch of examples.

    Attributes:
        input: Input of the network, (N, C, h, w) in [0, 1].
        target: Target of the network, (N, C, H, W) in [0, 1].
        row: Row of each sample in its split, (N,) int64; `datamodule.name(split, row)` returns its name.
    """

    input: Tensor
    target: Tensor
    row: Tensor


def luma(rgb: Tensor) -> Tensor:
    """Return the luma of the sRGB values, ITU-R BT.601, full range; the definition of gray in srcolor.

    Args:
        rgb: (N, 3, H, W).

    Returns:
        (N, 1, H, W).

    >>> luma(torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)).item()
    0.29899999499320984
    """
    red, green, blue = rgb.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def rgb_to_lab(rgb: Tensor) -> Tensor:
    """Convert sRGB to CIELAB, white point D65, 2 degree observer.

    Args:
        rgb: (N, 3, H, W) in [0, 1].

    Returns:
        (N, 3, H, W): L* in [0, 100], a* and b* in [-108, 99] for sRGB in [0, 1]; grays have |a*| and |b*| below
        0.005, not 0.
    """
    with torch.autocast(rgb.device.type, enabled=False):  # bfloat16 is too coarse for neighboring colors
        return kornia.color.rgb_to_lab(rgb.float())


def rgb_to_ab(rgb: Tensor) -> Tensor:
    """Return a* and b* of CIELAB, (N, 2, H, W); see `rgb_to_lab`."""
    return rgb_to_lab(rgb)[:, 1:]


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Convert CIELAB to sRGB; outside [0, 1] for colors that sRGB lacks.

    Args:
        lab: (N, 3, H, W) as `rgb_to_lab` returns it.
    """
    with torch.autocast(lab.device.type, enabled=False):
        return kornia.color.lab_to_rgb(lab.float(), clip=False)


def with_luma(rgb: Tensor, gray: Tensor) -> Tensor:
    """Replace the luma of an image, and keep its chroma as far as [0, 1] allows.

    Chroma is the difference between an image and its luma. It is scaled, pixel by pixel, by the largest factor up to 1
    that keeps every channel in [0, 1], and added to the gray. So the luma of the result is the gray, to 1e-6, and to
    1/255 after rounding to bytes.

    Args:
        rgb: (N, 3, H, W), any range.
        gray: (N, 1, H, W) in [0, 1].

    Returns:
        (N, 3, H, W) in [0, 1], up to float rounding.

    >>> red, dark = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1), torch.full((1, 1, 1, 1), 0.1)
    >>> with_luma(red, dark).flatten()
    tensor([0.3344, 0.0000, 0.0000])
    """
    return with_chroma(gray, rgb - luma(rgb))


def with_chroma(gray: Tensor, chroma: Tensor) -> Tensor:
    """Add chroma to a gray image as far as [0, 1] allows; see `with_luma`.

    Args:
        gray: (N, 1, H, W) in [0, 1].
        chroma: (N, 3, H, W), of luma 0, so that no channel or at least one of each sign is other than 0.

    Returns:
        (N, 3, H, W) in [0, 1], up to float rounding.
    """
    # Of the channels above the gray, the largest is the first to reach 1; of those below it, the smallest to reach 0.
    up = (1 - gray) / chroma.amax(1, keepdim=True).clamp(min=1e-6)
    down = gray / (-chroma.amin(1, keepdim=True)).clamp(min=1e-6)
    return gray + torch.minimum(up, down).clamp(max=1) * chroma


def from_ab(gray: Tensor, ab: Tensor) -> Tensor:
    """Return the color image with the given a* and b*, the lightness of a gray image, and the gray as its luma.

    Args:
        gray: (N, 1, H, W) in [0, 1].
        ab: (N, 2, H, W), a* and b* of CIELAB.

    Returns:
        (N, 3, H, W) in [0, 1]; with less chroma where sRGB lacks the color.
    """
    lightness = rgb_to_lab(gray.expand(-1, 3, -1, -1))[:, :1]
    return with_luma(lab_to_rgb(torch.cat([lightness, ab], 1)), gray)


def block_mean(images: Tensor, scale: int) -> Tensor:
    """Downscale images to the mean of every `scale` x `scale` block of pixels.

    Args:
        images: (N, C, H, W), H and W multiples of `scale`.
        scale: Side of a block in pixels.

    Returns:
        (N, C, H / scale, W / scale).

    Raises:
        UserError: If a side is not a multiple of `scale`.

    >>> block_mean(torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]]), 2)
    tensor([[[[0.7500]]]])
    """
    _check_divisible(images, scale)
    return F.avg_pool2d(images, scale)


def consistent(output: Tensor, low_res: Tensor) -> Tensor:
    """Project images onto those whose block means are a low-resolution image.

    The projection is orthogonal: it adds to each block what its mean lacks. So it raises the squared error against no
    target that has these block means, and rules out a drift of brightness and color. After Wang et al. 2022, "GAN prior
    based null-space learning" (arXiv 2211.13524).

    Args:
        output: (N, C, scale * h, scale * w), any range.
        low_res: (N, C, h, w).

    Returns:
        The shape of `output`; its block means are `low_res`, to float rounding. Not clamped.

    >>> consistent(torch.tensor([[[[0.0, 1.0], [1.0, 1.0]]]]), torch.full((1, 1, 1, 1), 0.5))
    tensor([[[[-0.2500,  0.7500],
              [ 0.7500,  0.7500]]]])
    """
    scale = output.shape[-1] // low_res.shape[-1]
    output = output.to(torch.promote_types(output.dtype, low_res.dtype))  # bfloat16 is too coarse for the means
    difference = low_res - block_mean(output, scale)
    return output + F.interpolate(difference, size=output.shape[-2:], mode="nearest")


def bicubic_down(images: Tensor, scale: int) -> Tensor:
    """Downscale images like MATLAB's `imresize`, and round them to 8 bits.

    Cubic kernel with a = -0.5, stretched by `scale` against aliasing, as for the low-resolution images of the
    super-resolution literature. It differs from MATLAB in the outer two pixels, where the kernel is renormalized
    instead of the image mirrored; `benchmark.lowres.imresize` is exact.

    Args:
        images: (N, C, H, W), H and W multiples of `scale`.
        scale: Integer factor.

    Returns:
        (N, C, H / scale, W / scale), multiples of 1/255.

    Raises:
        UserError: If a side is not a multiple of `scale`.
    """
    _check_divisible(images, scale)
    height, width = images.shape[-2] // scale, images.shape[-1] // scale
    small = F.interpolate(images, size=(height, width), mode="bicubic", antialias=True)
    return (small.clamp(0, 1) * 255).round() / 255


def bicubic_up(images: Tensor, scale: int) -> Tensor:
    """Enlarge images with the cubic kernel of the literature (a = -0.5: MATLAB, Pillow).

    PyTorch's kernel without `antialias` has a = -0.75, which is a sharper baseline.

    Args:
        images: (N, C, H, W).
        scale: Integer factor.

    Returns:
        (N, C, scale * H, scale * W); slightly outside [0, 1] near sharp edges.
    """
    size = (images.shape[-2] * scale, images.shape[-1] * scale)
    return F.interpolate(images, size=size, mode="bicubic", antialias=True)


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [0, 1] to bytes; values outside are clamped.

    >>> to_uint8(torch.tensor([-0.1, 0.5, 1.0]))
    tensor([  0, 128, 255], dtype=torch.uint8)
    """
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def _check_divisible(images: Tensor, scale: int) -> None:
    height, width = images.shape[-2:]
    if height % scale or width % scale:
        raise UserError(
            f"cannot shrink {width}x{height} images by {scale}: expected sides that are multiples of {scale}. "
            f"Crop them to {width - width % scale}x{height - height % scale}; in training, by size=."
        )
