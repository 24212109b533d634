"""Mode `segment`: number the class of each pixel."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from srcolor import class_colors
from srcolor.errors import UserError
from srcolor.inference import image_files, tiles
from srcolor.inference.modes import base


class Segment(base.Mode):
    """Write the class of each pixel as a gray PNG, and the image with a translucent color for each class.

    A network that was trained on reduced images sees the image reduced by the same factor, and its logits are enlarged
    to the size of the image.
    """

    name = "segment"
    help = "number the class of each pixel"
    kind = base.Kind("a segmentation network for RGB, of scale 1", logits=True)
    default = None
    options = frozenset({"shrink"})

    def __init__(self, args: argparse.Namespace) -> None:
        from srcolor import runs  # these import torch
        from srcolor.nets.up_logits import UpLogits

        super().__init__(args)
        net = base.load(args.run, self.kind)
        self.shrink = runs.shrink(args.run) if args.shrink is None else args.shrink
        self.stride = net.stride
        self.net = net if self.shrink == 1 else UpLogits(net, self.shrink, shrink=True).eval()
        self.stages.append(self._segment)

    @classmethod
    def written(cls) -> tuple[str, ...]:
        """See `Mode`."""
        return ("segment.png", "segment_overlay.png")

    @classmethod
    def endings(cls, args: argparse.Namespace) -> tuple[str, ...]:
        """See `Mode`."""
        return cls.written()

    @classmethod
    def check(cls, args: argparse.Namespace) -> None:
        """See `Mode`."""
        if args.run is None:
            raise UserError(
                "--mode segment requires --run: no segmentation network is bundled. Train one: python train.py "
                "experiment=segment64"
            )

    def outputs(self, source: image_files.Picture, result: NDArray[Any]) -> list[base.Output]:
        """See `Mode`."""
        classes = image_files.to_image(result)
        return [
            base.Output(classes, image_files.Picture(classes)),
            base.Output(overlay(source.image, classes), source),
        ]

    def _segment(self, pixels: tiles.Pixels, done: Callable[[float], None]) -> NDArray[Any]:
        self._check_size(*pixels.shape[:2])
        out = base.empty(pixels.shape[:2], np.dtype(np.uint8))
        return tiles.segment(self.net, pixels, out, tile=self.args.tile, done=done)

    def _check_size(self, height: int, width: int) -> None:
        """Raise a `UserError` if an image is too small to be reduced."""
        small_height, small_width = -(-height // self.shrink), -(-width // self.shrink)
        if self.shrink > 1 and min(small_height, small_width) < self.stride:
            raise UserError(
                f"--shrink {self.shrink} reduces the image from {width}x{height} to {small_width}x{small_height}: "
                f"expected at least {self.stride}x{self.stride}. Pass --shrink "
                f"{max(1, min(height, width) // self.stride)}."
            )


def overlay(image: pyvips.Image, classes: pyvips.Image) -> pyvips.Image:
    """Blend an image and the color of each pixel's class, without loading the image; class 0 keeps the image.

    Args:
        image: RGB, 8 or 16 bits per channel.
        classes: Gray, 8 bits, of the same size.
    """
    table = image_files.to_image(class_colors.table(256)[None])
    level = 257 if image.format == "ushort" else 1
    colors = classes.maplut(table) * level
    mixed = (image * (1 - class_colors.OPACITY) + colors * class_colors.OPACITY).rint().cast(image.format)
    return (classes == 0).ifthenelse(image, mixed).copy(interpretation=image.interpretation)
