"""Augmentation by the draws of each sample: flips when a batch is gathered, the rest of a batch on the training device.

The draws stay on the host, so that decisions that depend on them do not wait for the device.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from srcolor.data import draws as columns
from srcolor.data.crops import Pixels
from srcolor.images import luma

FLIPS = ("none", "horizontal", "dihedral")


def flip(image: Pixels, uniforms: Sequence[float], mode: str) -> Pixels:
    """Mirror an image, all of its planes, by its draws; returns a view.

    Args:
        image: (H, W, planes); square for `dihedral`.
        uniforms: The `FLIPS` of its draws.
        mode: `none`; `horizontal`: left-right, for half of the images (faces); `dihedral`: one of the eight symmetries
            of the square (images without a top, such as textures).
    """
    horizontal, vertical, transpose = (uniform < 0.5 for uniform in uniforms)
    if mode != "none" and horizontal:
        image = image[:, ::-1]
    if mode == "dihedral":
        image = image[::-1] if vertical else image
        image = image.transpose(1, 0, 2) if transpose else image
    return image


def zoom(images: Tensor, draws: Tensor, minimum: float) -> Tensor:
    """Enlarge a random window of each image to full size: bilinear, planes beyond the third (masks) nearest neighbor.

    Args:
        images: (N, C, H, W).
        draws: (N, COLUMNS) in [0, 1), on the CPU.
        minimum: Minimum side of the window as a fraction of the image's side, up to 1; 1 for no change.
    """
    if minimum == 1:
        return images
    fraction, down, right = draws[:, columns.ZOOM].to(images.device, non_blocking=True).unbind(1)
    fraction = 1 - (1 - minimum) * fraction
    zero = torch.zeros_like(fraction)
    across = torch.stack([fraction, zero, (1 - fraction) * (2 * right - 1)], 1)
    along = torch.stack([zero, fraction, (1 - fraction) * (2 * down - 1)], 1)
    grid = F.affine_grid(torch.stack([across, along], 1), list(images.shape), align_corners=False)
    grid = grid.to(images.dtype)
    zoomed = F.grid_sample(images[:, :3], grid, padding_mode="border", align_corners=False)
    if images.shape[1] <= 3:
        return zoomed
    masks = F.grid_sample(images[:, 3:], grid, mode="nearest", padding_mode="border", align_corners=False)
    return torch.cat([zoomed, masks], 1)


def jitter(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Change brightness, contrast, saturation and hue of each image, in a random order.

    The same function of the factors as torchvision's `ColorJitter(strength, strength, strength, strength)`, which
    does not support different factors per image. (Kornia's functions can; its hue took 83 ms for a batch of
    100 images of 128x128 on two cores, the one here 15.)

    Args:
        images: (N, 3, H, W) in [0, 1]; further planes (masks) are unchanged.
        draws: (N, COLUMNS) in [0, 1), on the CPU.
        strength: Factors are uniform in [1 - strength, 1 + strength], the hue shift in [-strength, strength] turns.
    """
    if strength == 0:
        return images
    if images.shape[1] > 3:  # masks
        return torch.cat([jitter(images[:, :3], draws, strength), images[:, 3:]], 1)
    shifts = ((draws[:, columns.JITTER] * 2 - 1) * strength).to(images.device, non_blocking=True)
    orders, group = draws[:, columns.ORDER].argsort(dim=1).unique(dim=0, return_inverse=True)
    out = torch.empty_like(images)
    for number, order in enumerate(orders.tolist()):
        members = (group == number).nonzero().flatten().to(images.device, non_blocking=True)
        part, shift = images[members].contiguous(), shifts[members]  # one plane per color: faster here
        for adjustment in order:
            part = adjust(part, adjustment, shift[:, adjustment])
        out[members] = part
    return out


def adjust(images: Tensor, adjustment: int, shift: Tensor) -> Tensor:
    """Apply one adjustment of `ColorJitter`.

    Args:
        images: (N, 3, H, W) in [0, 1].
        adjustment: 0 brightness, 1 contrast, 2 saturation, 3 hue.
        shift: (N,) factor minus one; for the hue, turns.

    Returns:
        Images in [0, 1].
    """
    shift = shift[:, None, None, None]
    if adjustment == 3:
        return _turn_hue(images, shift[:, 0])
    if adjustment == 0:
        return (images * (1 + shift)).clamp_(0, 1)
    other = luma(images) if adjustment == 2 else luma(images).mean((2, 3), keepdim=True)
    return torch.lerp(other, images, 1 + shift).clamp_(0, 1)


def _turn_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Add (N, 1, 1) turns to the hue of HSV; value and saturation do not change."""
    red, green, blue = images.unbind(1)
    value, minimum = images.amax(1), images.amin(1)
    chroma = value - minimum
    scale = torch.where(chroma == 0, 1, chroma).reciprocal_()
    # In sixths of a turn, counted from the largest of red, green and blue; then in [0, 6).
    hue = torch.where(value == green, (blue - red).mul_(scale).add_(2), (red - green).mul_(scale).add_(4))
    hue = torch.where(value == red, (green - blue).mul_(scale), hue).add_(6 * shift)
    hue = hue.sub_(hue.div(6).floor_().mul_(6))
    out = torch.empty_like(images)
    torch.addcmul(minimum, chroma, hue.sub(3).abs_().sub_(1).clamp_(0, 1), out=out[:, 0])
    torch.addcmul(minimum, chroma, hue.sub(2).abs_().neg_().add_(2).clamp_(0, 1), out=out[:, 1])
    torch.addcmul(minimum, chroma, hue.sub(4).abs_().neg_().add_(2).clamp_(0, 1), out=out[:, 2])
    return out
