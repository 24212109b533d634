"""Mode `colorize`: color gray images, in one or several versions."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from srcolor.inference import choices, image_files, tiles
from srcolor.inference.modes import base

if TYPE_CHECKING:
    from torch import Tensor

    from srcolor.nets import Net


class Color(base.Mode):
    """A mode that colorizes.

    Args:
        args: See `Mode`.
        sharpness: That of the color network, see `runs.load_net`.
    """

    kind = base.Kind("a network from gray to RGB, of scale 1", gray=True)
    default = "srcolor/colorize64"
    options = base.FILE_OPTIONS | frozenset(
        "compare pick reference render_size saturation sharpness sheet temperature tint".split()
    )

    def __init__(self, args: argparse.Namespace, sharpness: float | None) -> None:
        from srcolor.inference import colorings  # imports torch

        super().__init__(args)
        self.color = base.load(args.run or self.default, self.kind, sharpness)
        self.choice = choices.Choice(
            args.pick,
            choices.DEFAULT_TEMPERATURE if args.temperature is None else args.temperature,
            args.tint,
            None if args.reference is None else colorings.reference_code(args.reference, args.max_megapixels),
        )
        self.chosen = colorings.Chosen(self.color, self.choice)
        if args.samples is not None or args.pick is not None:
            colorings.check_samples(self.color)
        self.render_sizes: list[int] = args.render_sizes or [self.color.render_size]
        self.stages.append(self._colorize)

    @classmethod
    def written(cls) -> tuple[str, ...]:
        """See `Mode`."""
        return (*super().written(), "sheet")

    @classmethod
    def endings(cls, args: argparse.Namespace) -> tuple[str, ...]:
        """See `Mode`."""
        return ("sheet",) if _is_sheet(args) else super().endings(args)

    def remarks(self, source: image_files.Picture) -> list[str]:
        """See `Mode`."""
        remarks = []
        if source.has_color():
            kind = "toned, as sepia prints are" if source.is_toned() else "has color"
            remarks.append(f"{kind}; treated as gray")
        if self.args.sheet:
            remarks.append(f"sheet, from left to right: colorized at {', '.join(map(str, self.render_sizes))}")
        if self.args.samples is not None:
            samples, repeated = self.args.samples, self.args.repeated
            remarks.append(f"sheet of {samples} colorings; --pick NUMBER{repeated} writes one at full size")
        return remarks

    def predict(self, source: image_files.Picture, done: Callable[[float], None]) -> NDArray[Any]:
        """See `Mode`."""
        return self._sheet(source) if _is_sheet(self.args) else super().predict(source, done)

    def outputs(self, source: image_files.Picture, result: NDArray[Any]) -> list[base.Output]:
        """See `Mode`."""
        if _is_sheet(self.args):
            return [base.Output(image_files.to_image(result), image_files.Picture(source.image))]
        return super().outputs(source, result)

    def _colorize(self, pixels: tiles.Pixels, done: Callable[[float], None]) -> NDArray[Any]:
        from srcolor.inference import colorizer  # imports torch

        out, size, saturation = base.empty(pixels.shape, pixels.dtype), self.render_sizes[0], self.args.saturation
        return colorizer.colorize(self.chosen, pixels, out, render_size=size, saturation=saturation, done=done)

    def _sheet(self, source: image_files.Picture) -> NDArray[Any]:
        """Return colorings of the image side by side, reduced: samples, or one per render size.

        The networks see the whole image, as in `predict`, so the colors are those of the full-size result.
        """
        from srcolor.inference import colorings, colorizer  # these import torch

        for stage in self.preparation(source):
            source = image_files.Picture(image_files.to_image(stage(source, lambda fraction: None)))
        height, width, _ = source.shape
        if self.args.samples is None:
            small = source.reduced(min(colorings.SIDE / height, colorings.SHEET_WIDTH / len(self.render_sizes) / width))
            grays = [(size, colorizer.reduced_luma(source, size)) for size in self.render_sizes]
            return np.concatenate([self._color(self.chosen, small, gray, size) for size, gray in grays], 1)
        small = source.reduced(colorings.SIDE / max(height, width))
        size = self.render_sizes[0]
        gray = colorizer.reduced_luma(source, size)
        picks = (replace(self.choice, pick=number) for number in range(1, self.args.samples + 1))
        nets = [colorings.Chosen(self.color, choice) for choice in picks]
        return colorings.sheet([self._color(net, small, gray, size) for net in nets])

    def _color(self, net: "Net", pixels: NDArray[Any], gray: "Tensor", size: int) -> NDArray[Any]:
        """Colorize pixels with the chroma that a network predicts from the luma at a render size."""
        from srcolor.inference import colorizer  # imports torch

        return colorizer.with_chroma(pixels, colorizer.chroma(net, gray, size, self.args.saturation))


class Colorize(Color):
    """Colorize an image and keep its size."""

    name = "colorize"
    help = "color gray images"
    options = Color.options | {"samples"}

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args, args.sharpness)


def _is_sheet(args: argparse.Namespace) -> bool:
    """Return whether the result shows several colorings."""
    return args.sheet or args.samples is not None
