"""Apply networks to images of any size: enlarge, restore or segment in tiles, colorize at a render size."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import psutil
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from srcolor import images
from srcolor.errors import UserError
from srcolor.nets import Net

STRIP = 2**21  # number of pixels that are recombined together
SMALLEST, LARGEST = 32, 256  # sides of tiles; larger ones are not faster, or slower: see `hardware.keep_memory`
MAPS = 8  # assumed number of the widest layer's activations in memory; measured: 4 for residual, 5 for SESR


class Pixels(Protocol):
    """An image, (H, W, 3), uint8 or uint16: an array, or an object that decodes its parts on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, 3."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""

    def __getitem__(self, part: tuple[slice, slice]) -> NDArray[Any]:
        """Return a part, rows and columns."""


def enlarge(
    net: Net,
    pixels: Pixels,
    out: NDArray[Any] | None = None,
    *,
    tile: int | None = None,
    bfloat16: bool = False,
    done: Callable[[float], None] = lambda fraction: None,
) -> NDArray[Any]:
    """Enlarge an image in tiles, see `_apply`; the result equals that of the untiled image within 1/255.

    Args:
        net: A network from RGB to RGB in evaluation mode; at a scale of 1, it restores the image.
        pixels: The image.
        out: Array for the result, (scale * H, scale * W, 3) of the same type; if None, a new one.
        tile: Side of a tile, in pixels of the image; if None, it depends on the free memory (`tile_size`).
        bfloat16: Whether to process 8-bit images in bfloat16.
        done: Called after each tile with the finished fraction.

    Returns:
        The enlarged image, (scale * H, scale * W, 3).

    Raises:
        UserError: If the receptive field is unlimited, or there is not enough memory for the smallest tile.
    """
    if out is None:
        out = np.empty((net.scale * pixels.shape[0], net.scale * pixels.shape[1], 3), pixels.dtype)

    def read(image: Tensor) -> NDArray[Any]:
        return _to_pixels(image, pixels.dtype)

    return _apply(net, pixels, out, read, tile=tile, bfloat16=bfloat16, done=done)


def segment(
    net: Net,
    pixels: Pixels,
    out: NDArray[Any] | None = None,
    *,
    tile: int | None = None,
    done: Callable[[float], None] = lambda fraction: None,
) -> NDArray[Any]:
    """Classify the pixels of an image in tiles, see `_apply`, in float32 as in evaluation.

    The result equals that of the untiled image, except where the largest logits are equal up to float rounding.

    Args:
        net: A network from RGB to logits, of scale 1, in evaluation mode.
        pixels: The image.
        out: Array for the result, (H, W), uint8; if None, a new one.
        tile: See `enlarge`.
        done: See `enlarge`.

    Returns:
        The class with the largest logit, (H, W), uint8.

    Raises:
        UserError: As `enlarge`, or if there are more classes than uint8 has values.
    """
    if net.outputs is not None and net.outputs > 256:
        raise UserError(f"{type(net).__name__} has {net.outputs} classes: expected at most 256.")
    if out is None:
        out = np.empty(pixels.shape[:2], np.uint8)
    return _apply(net, pixels, out, lambda logits: logits[0].argmax(0).byte().cpu().numpy(), tile=tile, done=done)


def _apply(
    net: Net,
    pixels: Pixels,
    out: NDArray[Any],
    read: Callable[[Tensor], NDArray[Any]],
    *,
    tile: int | None,
    bfloat16: bool = False,
    done: Callable[[float], None],
) -> NDArray[Any]:
    """Apply a network in tiles, and return `out`.

    A tile is padded by the radius of the network's `receptive_field`, and starts at a multiple of its `stride`. If
    memory runs out, tiles of half the side are tried.

    Args:
        net: See `enlarge`.
        pixels: See `enlarge`.
        out: Array for the result; its first two dimensions are scale * H, scale * W.
        read: Function from the network's output for a tile, (1, C, h, w), to its part of the result, (h, w, ...).
        tile: See `enlarge`.
        bfloat16: See `enlarge`.
        done: See `enlarge`.

    Raises:
        UserError: See `enlarge`.
    """
    if net.receptive_field is None:
        raise UserError(f"{type(net).__name__} has an unlimited receptive field: it cannot be applied in tiles.")
    height, width, _ = pixels.shape
    scale, stride = net.scale, net.stride
    margin = -(-((net.receptive_field - 1) // 2) // stride) * stride
    side = max(stride, (tile or tile_size(net)) // stride * stride)
    top = 0
    while top < height:
        left, rows = 0, min(side, height - top)
        while left < width:
            try:
                columns = min(side, width - left)
                first, start = max(0, top - margin), max(0, left - margin)
                part = pixels[first : top + rows + margin, start : left + columns + margin]
                result = read(_run(net, part, bfloat16 and pixels.dtype == np.uint8))
                inner = result[scale * (top - first) :, scale * (left - start) :][: scale * rows, : scale * columns]
                out[scale * top : scale * (top + rows), scale * left : scale * (left + columns)] = inner
            except (RuntimeError, MemoryError) as error:
                if not _out_of_memory(error):
                    raise
                if side // 2 < max(SMALLEST, stride):
                    raise UserError(
                        f"not enough memory for {side}x{side} tiles; close other programs and retry"
                    ) from error
                side = side // 2 // stride * stride
                rows = min(side, height - top)
                left = 0
                continue
            left += columns
            done((top * width + rows * left) / (height * width))
        top += rows
    return out


def tile_size(net: Net) -> int:
    """Return the side of tiles that need at most a third of the free memory, at least 32 pixels.

    It is at most 256, or twice the receptive field, so that the padding is not most of the work. Memory is estimated
    from the network's widest convolution, or from 64 channels if it has none.

    Args:
        net: A network with a finite `receptive_field`.
    """
    assert net.receptive_field is not None
    widest = max((weight.shape[0] for weight in net.parameters() if weight.ndim == 4), default=64)
    device = _device(net)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    side = int((free / 3 / (MAPS * 4 * widest)) ** 0.5) - (net.receptive_field - 1)
    return min(max(LARGEST, 2 * (net.receptive_field - 1)), max(SMALLEST, side))


def _device(net: Net) -> torch.device:
    return next((tensor.device for tensor in net.parameters()), torch.device("cpu"))


@torch.inference_mode()
def _run(net: Net, part: NDArray[Any], bfloat16: bool) -> Tensor:
    device = _device(net)
    x = _to_tensor(part).to(device).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        return net(x).float()


def _to_tensor(part: NDArray[Any]) -> Tensor:
    return torch.from_numpy(part.astype(np.float32).transpose(2, 0, 1).copy())[None] / np.iinfo(part.dtype).max


def _to_pixels(x: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    return (x[0].clamp(0, 1) * np.iinfo(dtype).max).round().permute(1, 2, 0).cpu().numpy().astype(dtype)


def _out_of_memory(error: BaseException) -> bool:
    # PyTorch's messages on a CPU: the first on Linux and macOS, the second on Windows.
    messages = ("can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(text in str(error) for text in messages)


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
        band = images.luma(_to_tensor(pixels[first:last, 0:width]))
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
    try:
        color = net.render(gray.to(_device(net)), render_size).float().cpu().clamp(0, 1)
    except (RuntimeError, MemoryError) as error:
        if not _out_of_memory(error):
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
        gray = images.luma(_to_tensor(pixels[top:bottom, 0:width]))
        out[top:bottom] = _to_pixels(images.with_luma(gray + large, gray), out.dtype)
        done(bottom / height)
    return out
