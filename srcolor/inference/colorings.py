"""The choices of a user among the colorings of an image: samples, tint, and the colors of a reference."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from srcolor import images
from srcolor.color_code import ColorCode, color_code, recolor
from srcolor.errors import UserError
from srcolor.inference import image_files
from srcolor.inference.choices import Choice
from srcolor.nets import Net
from srcolor.nets.unet_codes import UNetCodes

REFERENCE_SIDE = 64  # shorter side that a reference is reduced to
SEED = 0
GAP = 4  # pixels between the colorings of a sheet
SIDE = 512  # maximum height of a coloring on a sheet, and maximum width of a sample
SHEET_WIDTH = 16_000  # maximum width of a sheet of render sizes; WebP has the lowest limit of all formats, 16,383


def check_samples(net: Net) -> None:
    """Check that a color network offers samples.

    Raises:
        UserError: If it offers only one coloring.
    """
    if not isinstance(net, UNetCodes):
        raise UserError(
            f"{type(net).__name__} offers a single coloring: --samples and --pick require a network of color codes, "
            "such as srcolor/colorize64."
        )


class Chosen(Net):
    """A color network that answers with a user's choice.

    Tint and reference apply to any color network: its a*, b* are mapped to the code, which a network of color codes
    also takes as an input.

    Args:
        net: A network from gray to RGB, of scale 1; one that offers samples, if the choice is a sample.
        choice: The choice.
    """

    scale = 1

    def __init__(self, net: Net, choice: Choice) -> None:
        super().__init__()
        self.net: Net = net
        self.choice = choice
        self.render_size = net.render_size

    def render(self, gray: Tensor, size: int) -> Tensor:
        """See `Net`; for a single image."""
        pick, tint, reference = self.choice.pick, self.choice.tint, self.choice.reference
        if pick is None:
            color = self.net.render(gray, size)
        else:
            assert isinstance(self.net, UNetCodes)
            color = self.net.samples(gray, pick, self.choice.temperature, [SEED], skip=pick - 1)[:, 0]
        if tint is None and reference is None:
            return color
        ab = images.rgb_to_ab(images.with_luma(color.clamp(0, 1), gray))
        code = color_code(ab) if reference is None else ColorCode(*(part.to(gray.device) for part in reference))
        if tint is not None:
            code = ColorCode(torch.tensor([tint], device=gray.device), code.covariance)
        if isinstance(self.net, UNetCodes):
            return self.net.colorize(gray, code)
        return images.from_ab(gray, recolor(ab, code))


def reference_code(file: Path, max_megapixels: float) -> ColorCode:
    """Return the color code of a picture, a batch of one.

    Raises:
        UserError: If it cannot be read, or has no color.
    """
    try:
        picture = image_files.read(Path(os.path.expanduser(file)), max_megapixels)
        if not picture.has_color():
            raise UserError("this picture is gray. Choose one with color.")
        small = picture.reduced(4 * REFERENCE_SIDE / min(picture.shape[:2]))
    except (UserError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"--reference {file}: {reason}") from error
    rgb = torch.from_numpy(small.astype(np.float32) / np.iinfo(small.dtype).max).permute(2, 0, 1)[None]
    factor = max(1.0, min(rgb.shape[2:]) / REFERENCE_SIDE)
    rgb = F.adaptive_avg_pool2d(rgb, (round(rgb.shape[2] / factor), round(rgb.shape[3] / factor)))
    return color_code(images.rgb_to_ab(rgb))


def sheet(colorings: list[NDArray[Any]]) -> NDArray[np.uint8]:
    """Lay out colorings of one image in rows of four, each with its number in a corner.

    Args:
        colorings: (H, W, 3) each, of the same shape, uint8 or uint16.
    """
    height, width, _ = colorings[0].shape
    columns = min(4, len(colorings))
    rows = -(-len(colorings) // columns)
    canvas = Image.new("RGB", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(max(10, min(height, width) // 10))
    for number, pixels in enumerate(colorings, 1):
        row, column = divmod(number - 1, columns)
        corner = (column * (width + GAP), row * (height + GAP))
        canvas.paste(Image.fromarray(pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)), corner)
        _, _, right, bottom = pen.textbbox(corner, str(number), font)
        pen.rectangle((*corner, right + 3, bottom + 3), "white")
        pen.text((corner[0] + 2, corner[1]), str(number), "black", font)
    return np.asarray(canvas)


def cells(whole: Image.Image, count: int) -> list[Image.Image]:
    """Return the colorings of a sheet, see `sheet`.

    Args:
        whole: The sheet.
        count: Number of its colorings.

    >>> [cell.size for cell in cells(Image.fromarray(sheet([np.zeros((8, 6, 3), np.uint8)] * 5)), 5)]
    [(6, 8), (6, 8), (6, 8), (6, 8), (6, 8)]
    """
    columns = min(4, count)
    rows = -(-count // columns)
    width, height = (whole.width + GAP) // columns, (whole.height + GAP) // rows
    corners = ((number % columns * width, number // columns * height) for number in range(count))
    return [whole.crop((left, top, left + width - GAP, top + height - GAP)) for left, top in corners]
