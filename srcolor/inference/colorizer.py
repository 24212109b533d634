"""Colorize images of any size: the chroma of a reduced image, enlarged, with the luma of the full-size one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from srcolor import images
from srcolor.errors import UserError
from srcolor.inference.tiles import Pixels, out_of_memory
from srcolor.inference.torch_engine import to_pixels, to_tensor
from srcolor.nets import Net

STRIP = 2**21  # number of pixels that are recombined together


def colorize(
    net: Net,
    pixels: Pixels,
    out: NDArray[Any] | None = None,
    *,
    render_size: int | None = None,
    saturation: float = 1.0,
    done: Callable[[float], None] = lambda fraction: None,
) -> NDArray[Any]:
    """Colorize an image and keep its luma: `reduced_luma`, `chroma`, and `with_chroma` in turn.

    Args:
        net: A network from gray to RGB of the same size, in evaluation mode.
        pixels: The image; its chroma, if any, is ignored.
        out: Array for the result, of the same shape and type; if None, a new one.
        render_size: Shorter side of the network's input in pixels, at most that of the image; if None, the network's
            own `render_size`. A network that resizes its input, as DDColor does, also enlarges a smaller image to it.
        saturation: Factor on the chroma.
        done: Called with the finished fraction.

    Returns:
        The colorized image, (H, W, 3).

    Raises:
        UserError: If there is not enough memory for the network.
    """
    render_size = net.render_size if render_size is None else render_size
    color = chroma(net, reduced_luma(pixels, render_size), render_size, saturation)
    return with_chroma(pixels, color, out, done)


def reduced_luma(pixels: Pixels, render_size: int) -> Tensor:
    """Return the luma of an image, reduced by area averaging; a smaller image is not enlarged.

    Args:
        pixels: The image.
        render_size: Shorter side of the result in pixels.

    Returns:
        (1, 1, h, w) in [0, 1].
    """
    height, width, _ = pixels.shape
    factor = max(1.0, min(height, width) / render_size)
    rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
    small = torch.empty(1, 1, rows, columns)
    for row in range(rows):
        first, last = row * height // rows, -(-(row + 1) * height // rows)
        band = images.luma(to_tensor(pixels[first:last, 0:width]))
        small[:, :, row] = F.adaptive_avg_pool2d(band, (1, columns))[:, :, 0]
    return small


@torch.inference_mode()
def chroma(net: Net, gray: Tensor, render_size: int, saturation: float = 1.0) -> Tensor:
    """Return the chroma that a network predicts: the difference between its output and the luma of its output.

    Args:
        net: See `colorize`.
        gray: The luma at the render size, see `reduced_luma`.
        render_size: See `colorize`.
        saturation: Factor on the chroma.

    Returns:
        (1, 3, h, w).

    Raises:
        UserError: If there is not enough memory for the network.
    """
    device = next((tensor.device for tensor in net.parameters()), torch.device("cpu"))
    try:
        color = net.render(gray.to(device), render_size).float().cpu().clamp(0, 1)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"not enough memory to colorize at a render size of {render_size}; pass a smaller one, or close other "
            "programs"
        ) from error
    return saturation * (color - images.luma(color))


@torch.inference_mode()
def with_chroma(
    pixels: Pixels,
    chroma: Tensor,
    out: NDArray[Any] | None = None,
    done: Callable[[float], None] = lambda fraction: None,
) -> NDArray[Any]:
    """Combine the luma of an image with a chroma of any size, which is enlarged (bicubic); see `images.with_luma`.

    Args:
        pixels: The image; its own chroma, if any, is ignored.
        chroma: (1, 3, h, w); the aspect ratio of the image is assumed.
        out: See `colorize`.
        done: Called with the finished fraction.

    Returns:
        The colorized image, (H, W, 3).
    """
    height, width, _ = pixels.shape
    if out is None:
        out = np.empty((height, width, 3), pixels.dtype)
    across = (torch.arange(width) + 0.5) / width * 2 - 1
    strip = max(1, STRIP // width)
    for top in range(0, height, strip):
        bottom = min(height, top + strip)
        down = (torch.arange(top, bottom) + 0.5) / height * 2 - 1
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), 2)[None]
        large = F.grid_sample(chroma, grid, mode="bicubic", padding_mode="border", align_corners=False)
        gray = images.luma(to_tensor(pixels[top:bottom, 0:width]))
        out[top:bottom] = to_pixels(images.with_luma(gray + large, gray), out.dtype)
        done(bottom / height)
    return out
