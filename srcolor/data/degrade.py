"""Degradations of old photographs, applied to the input of a pair on the training device.

Each degradation maps images (N, 1 or 3, H, W) in [0, 1] and the parameters of each, (N, K) on the CPU, to images in
[0, 1]. A seed is a uniform of the sample. It seeds a generator on the CPU, so an image is degraded in the same way in
any batch and on any device.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from srcolor import images as im
from srcolor.data import draws as columns
from srcolor.errors import UserError
from srcolor.images import Pair

RADIUS = 4  # of the blur kernels, in pixels
OPACITY = 0.8  # of scratches and dust at their centers
SCRATCHES = 4  # maximum number per image
SPOTS = 20  # of dust; maximum number per image
SPOT_RADIUS = (0.4, 1.9)  # standard deviation of a spot, in pixels


def blur(images: Tensor, parameters: Tensor) -> Tensor:
    """Blur each image with a Gaussian, as a lens does; borders are replicated.

    Args:
        images: See above.
        parameters: Angle of the first axis to the horizontal, in half turns; standard deviations along the two axes,
            in pixels. (N, 3).
    """
    return _filter(F.pad(images, (RADIUS,) * 4, mode="replicate"), _gaussian(parameters))


def fade(images: Tensor, parameters: Tensor) -> Tensor:
    """Fade each image: lift + (1 - lift) * (0.5 + contrast * (image ** gamma - 0.5)).

    Args:
        images: See above.
        parameters: Gamma; contrast; lift of the blacks. (N, 3).

    >>> fade(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 1, 1, 3), torch.tensor([[1.0, 0.5, 0.2]])).flatten()
    tensor([0.4000, 0.6000, 0.8000])
    """
    gamma, contrast, lift = _per_image(images, parameters)
    return lift + (1 - lift) * (0.5 + contrast * (images**gamma - 0.5))


def grain(images: Tensor, parameters: Tensor) -> Tensor:
    """Add the same noise to all channels: strongest at middle gray, where its factor is 1.3, and 0.3 at the ends.

    Args:
        images: See above.
        parameters: Seed in [0, 1); standard deviation, in pixels, of the Gaussian that blurs white noise; amplitude,
            the standard deviation of the noise before the factor. (N, 3).
    """
    seed, size, _ = parameters.unbind(1)
    height, width = (side + 2 * RADIUS for side in images.shape[-2:])
    noise = torch.stack([torch.randn(1, height, width, generator=_generator(one)) for one in seed.tolist()])
    kernels = _gaussian(torch.stack([torch.zeros_like(size), size, size], 1))
    noise = _filter(noise.to(images.device), kernels / kernels.square().sum((1, 2), keepdim=True).sqrt())
    gray = (im.luma(images) if images.shape[1] == 3 else images).clamp(0, 1)
    *_, amplitude = _per_image(images, parameters)
    return (images + amplitude * (0.3 + (4 * gray * (1 - gray)).sqrt()) * noise).clamp(0, 1)


def scratch(images: Tensor, parameters: Tensor) -> Tensor:
    """Draw curves from top to bottom, nearly vertical, white or black, with a Gaussian profile.

    Args:
        images: See above.
        parameters: Seed in [0, 1); number, rounded down, at most `SCRATCHES`; standard deviation of the profile, in
            pixels. (N, 3).
    """
    height, width = images.shape[-2:]
    random = _uniforms(parameters, (SCRATCHES, 4)).to(images.device)
    position, slope, bend, sign = random[..., None, None].unbind(2)  # (N, SCRATCHES, 1, 1)
    y = torch.linspace(-0.5, 0.5, height, device=images.device)[:, None]
    curve = width * (position + 0.2 * (2 * slope - 1) * y + 0.4 * (2 * bend - 1) * y**2)
    _, _, spread = _per_image(images, parameters)
    profile = torch.exp(-((torch.arange(width, device=images.device) + 0.5 - curve) / spread).square() / 2)
    weight = OPACITY * (1 - 2 * (sign < 0.5).float()) * _first(parameters, SCRATCHES).to(images.device)[..., None, None]
    return _cover(images, (weight * profile).sum(1, keepdim=True))


def dust(images: Tensor, parameters: Tensor) -> Tensor:
    """Draw white and black spots, Gaussians with a standard deviation within `SPOT_RADIUS`.

    Args:
        images: See above.
        parameters: Seed in [0, 1); number, rounded down, at most `SPOTS`. (N, 2).
    """
    height, width = images.shape[-2:]
    random = _uniforms(parameters, (SPOTS, 4)).to(images.device)
    down, right, size, sign = random[..., None].unbind(2)  # (N, SPOTS, 1)
    radius = SPOT_RADIUS[0] + (SPOT_RADIUS[1] - SPOT_RADIUS[0]) * size
    along, across = (
        torch.exp(-((torch.arange(side, device=images.device) + 0.5 - side * center) / radius).square() / 2)
        for side, center in ((height, down), (width, right))
    )
    weight = OPACITY * (1 - 2 * (sign < 0.5).float()) * _first(parameters, SPOTS).to(images.device)[..., None]
    return _cover(images, ((weight * along).transpose(1, 2) @ across)[:, None])


def jpeg(images: Tensor, parameters: Tensor) -> Tensor:
    """Compress each image with Pillow and decode it, on the CPU; images on another device are copied there and back.

    Args:
        images: See above.
        parameters: Quality, 1 to 100, rounded. (N, 1).

    Returns:
        Multiples of 1/255.
    """
    pixels = im.to_uint8(images).permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.empty_like(pixels)
    for image, result, quality in zip(pixels, decoded, parameters[:, 0].round().int().tolist(), strict=True):
        file = io.BytesIO()
        Image.fromarray(image.squeeze(2) if image.shape[2] == 1 else image).save(file, "JPEG", quality=quality)
        with Image.open(file) as opened:
            result[:] = np.asarray(opened).reshape(image.shape)
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).to(images.device).float() / 255


Range = tuple[float, float]
CHANCE: Range = (0.0, 1.0)  # a parameter that is not a strength: a seed or an angle


@dataclass(frozen=True)
class Step:
    """A degradation with the ranges of its parameters.

    Attributes:
        function: The degradation.
        columns: Its columns in a table of draws: whether to apply it, then one per parameter.
        probability: Probability for an image that is not clean.
        ranges: Range of each parameter, which is uniform.
        in_target: Whether the target of the pair is degraded too, so that the network does not learn to undo it.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    columns: slice
    probability: float
    ranges: tuple[Range, ...]
    in_target: bool = False

    def __call__(self, images: Tensor, draws: Tensor, used: Tensor) -> Tensor:
        """Degrade those images, (N, C, H, W), for which both `used`, (N,), and the draws, (N, COLUMNS), say so."""
        uniforms = draws[:, self.columns]
        members = (used & (uniforms[:, 0] < self.probability)).nonzero().flatten()
        if not len(members):
            return images
        low, high = torch.tensor(self.ranges, dtype=torch.float32).unbind(1)
        parameters = torch.lerp(low, high, uniforms[members, 1:])
        members = members.to(images.device)
        return images.index_copy(0, members, self.function(images[members], parameters))


@dataclass(frozen=True)
class Preset:
    """Degradations in physical order.

    Attributes:
        clean: Fraction of the images that are not degraded.
        photo: Steps on the full-size image, by name.
        file: Steps on the input of the pair, by name.
    """

    clean: float
    photo: dict[str, Step]
    file: dict[str, Step]


PRESETS = {
    "none": Preset(1, {}, {}),
    "mild": Preset(
        1 / 3,
        {
            "blur": Step(blur, columns.BLUR, 0.5, (CHANCE, (0.3, 0.8), (0.3, 0.8))),
            "fading": Step(fade, columns.FADING, 0.5, ((0.85, 1.2), (0.8, 1), (0, 0.1)), in_target=True),
            "grain": Step(grain, columns.GRAIN, 0.5, (CHANCE, (0.3, 1), (0.005, 0.03))),
            "scratches": Step(scratch, columns.SCRATCHES, 0.1, (CHANCE, (1, 3), (0.3, 0.5))),
            "dust": Step(dust, columns.DUST, 0.1, (CHANCE, (2, 7))),
        },
        {"jpeg": Step(jpeg, columns.JPEG, 0.5, ((70, 95),))},
    ),
    "old": Preset(
        1 / 3,
        {
            "blur": Step(blur, columns.BLUR, 0.8, (CHANCE, (0.3, 1.5), (0.3, 1.5))),
            "fading": Step(fade, columns.FADING, 0.7, ((0.7, 1.5), (0.4, 1), (0, 0.25)), in_target=True),
            "grain": Step(grain, columns.GRAIN, 0.8, (CHANCE, (0.3, 1), (0.01, 0.08))),
            "scratches": Step(scratch, columns.SCRATCHES, 0.3, (CHANCE, (1, 5), (0.3, 0.9))),
            "dust": Step(dust, columns.DUST, 0.3, (CHANCE, (6, 19))),
        },
        {"jpeg": Step(jpeg, columns.JPEG, 0.7, ((40, 95),))},
    ),
}


def preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        UserError: If the name is unknown.
    """
    if name not in PRESETS:
        raise UserError(f"unknown data.degrade={name}: expected one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def alone(whole: Preset, name: str) -> Preset:
    """Return one degradation of a preset alone, for every image, with every strength in the middle of its range."""

    def middle(steps: dict[str, Step]) -> dict[str, Step]:
        return {
            key: replace(
                step,
                probability=1,
                ranges=tuple(one if one == CHANCE else ((one[0] + one[1]) / 2,) * 2 for one in step.ranges),
            )
            for key, step in steps.items()
            if key == name
        }

    return Preset(0, middle(whole.photo), middle(whole.file))


def degraded(pair: Callable[[Tensor, Tensor], Pair], images: Tensor, row: Tensor, draws: Tensor, steps: Preset) -> Pair:
    """Return the pair of the images with the input of the degraded images.

    Fading is in the target too: a network sees a small area around a pixel, which does not show how faded the whole
    photograph is.

    Args:
        pair: Computes a `Pair` from images and rows.
        images: (N, planes, H, W) in [0, 1]; planes beyond the third (masks) are not degraded.
        row: Rows of the samples, (N,).
        draws: (N, COLUMNS) in [0, 1), on the CPU.
        steps: The degradations.
    """
    if not steps.photo and not steps.file:
        return pair(images, row)
    used = draws[:, columns.CLEAN] >= steps.clean
    photos = targets = images[:, :3]
    for step in steps.photo.values():
        photos = step(photos, draws, used)
        targets = step(targets, draws, used) if step.in_target else targets
    inputs, (_, target, _) = (pair(torch.cat([rgb, images[:, 3:]], 1), row) for rgb in (photos, targets))
    files = inputs.input
    for step in steps.file.values():
        files = step(files, draws, used)
    return Pair(files, target, row)


def _generator(seed: float) -> torch.Generator:
    return torch.Generator().manual_seed(int(seed * 2**24))  # all the digits of a uniform


def _uniforms(parameters: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return uniforms of each image, (N, *shape), by the seeds in the first column."""
    return torch.stack([torch.rand(shape, generator=_generator(seed)) for seed in parameters[:, 0].tolist()])


def _first(parameters: Tensor, limit: int) -> Tensor:
    """Return 1 for as many elements of each row as the second column says, then 0: (N, limit)."""
    return (torch.arange(limit) < parameters[:, 1:2].floor()).float()


def _per_image(images: Tensor, parameters: Tensor) -> tuple[Tensor, ...]:
    """Return each parameter on the device of the images, (N, 1, 1, 1)."""
    return parameters.to(images.device, non_blocking=True)[:, :, None, None, None].unbind(1)


def _gaussian(parameters: Tensor) -> Tensor:
    """Return normalized kernels, (N, 2 * RADIUS + 1, 2 * RADIUS + 1); for the parameters see `blur`."""
    angle, first, second = parameters[:, :, None, None].unbind(1)
    offset = torch.arange(-RADIUS, RADIUS + 1.0)
    down, right = offset[:, None], offset[None]
    cos, sin = torch.cos(math.pi * angle), torch.sin(math.pi * angle)
    exponent = ((right * cos + down * sin) / first).square() + ((down * cos - right * sin) / second).square()
    return torch.softmax(-exponent.flatten(1) / 2, 1).view_as(exponent)


def _filter(padded: Tensor, kernels: Tensor) -> Tensor:
    """Filter all channels of each image, (N, C, H + 2 * RADIUS, W + 2 * RADIUS), with its kernel: (N, C, H, W)."""
    number, channels, height, width = padded.shape
    weight = kernels.to(padded.device).repeat_interleave(channels, 0)[:, None]
    filtered = F.conv2d(padded.reshape(1, -1, height, width), weight, groups=number * channels)
    return filtered.view(number, channels, height - 2 * RADIUS, width - 2 * RADIUS)


def _cover(images: Tensor, cover: Tensor) -> Tensor:
    """Blend images with white where the cover, (N, 1, H, W), is positive, and with black where it is negative."""
    return torch.lerp(images, (cover > 0).to(images.dtype), cover.abs().clamp(max=1))
