"""Augmentation of a whole batch on the device that trains, from the samples' own draws."""

import math

import torch
from kornia import enhance
from torch import Tensor

from srcolor.data import draws as columns
from srcolor.errors import UserError

FLIPS = ("none", "horizontal", "dihedral")


def flip(images: Tensor, draws: Tensor, mode: str) -> Tensor:
    """Mirrors each image as its draws say.

    Args:
        images: (N, C, H, W); square for `dihedral`.
        draws: (N, COLUMNS) in [0, 1).
        mode: `none`; `horizontal`: left-right, for half of the images (faces); `dihedral`: one of the
            eight ways to lay a square on itself (photographs without an upright).

    Raises:
        UserError: An unknown mode.
    """
    if mode not in FLIPS:
        raise UserError(f"unknown data.flips={mode}: expected one of {', '.join(FLIPS)}.")
    if mode == "none":
        return images
    horizontal, vertical, transpose = ((draws[:, columns.FLIPS] < 0.5)[:, :, None, None, None]).unbind(1)
    images = torch.where(horizontal, images.flip(3), images)
    if mode == "dihedral":
        images = torch.where(vertical, images.flip(2), images)
        images = torch.where(transpose, images.transpose(2, 3), images)
    return images


def jitter(images: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Changes brightness, contrast, saturation and hue of each image, in an order of its own.

    The same functions of the factors as torchvision's `ColorJitter(strength, strength, strength,
    strength)`.

    Args:
        images: (N, 3, H, W) in [0, 1].
        draws: (N, COLUMNS) in [0, 1).
        strength: Factors are uniform in [1 - strength, 1 + strength], the hue's shift in
            [-strength, strength] turns.
    """
    if strength == 0:
        return images
    shifts = (draws[:, columns.JITTER] * 2 - 1) * strength
    order = draws[:, columns.ORDER].argsort(dim=1)
    for step in range(4):
        for adjustment in range(4):
            chosen = order[:, step] == adjustment
            if chosen.any():
                images = images.clone()
                images[chosen] = adjust(images[chosen], adjustment, shifts[chosen, adjustment])
    return images


def adjust(images: Tensor, adjustment: int, shift: Tensor) -> Tensor:
    """Applies one adjustment of `ColorJitter`.

    Args:
        images: (N, 3, H, W) in [0, 1].
        adjustment: 0 brightness, 1 contrast, 2 saturation, 3 hue.
        shift: (N,) factor minus one; for hue in turns.
    """
    if adjustment == 0:
        return enhance.adjust_brightness_accumulative(images, 1 + shift)
    if adjustment == 1:
        return enhance.adjust_contrast_with_mean_subtraction(images, 1 + shift)
    if adjustment == 2:
        return enhance.adjust_saturation_with_gray_subtraction(images, 1 + shift)
    return enhance.adjust_hue(images, shift * 2 * math.pi)
