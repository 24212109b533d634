"""Networks on pictures of any size: enlarged a tile at a time, coloured at the size that the network knows."""

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

STRIP = 2**21  # pixels that are coloured at a time
# Sides of the smallest and of the largest tile. Larger ones gain nothing, or lose: see `hardware.keep_memory`.
LEAST, MOST = 32, 256
MAPS = 8  # as many maps of a network's widest layer are in memory at once; measured 4 for residual, 5 for SESR


class Pixels(Protocol):
    """(H, W, 3), uint8 or uint16: an array, or what decodes its parts when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, 3."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8 or uint16."""

    def __getitem__(self, part: tuple[slice, slice]) -> NDArray[Any]:
        """A part, rows and columns."""


def enlarge(
    net: Net,
    pixels: Pixels,
    out: NDArray[Any] | None = None,
    *,
    tile: int | None = None,
    bfloat16: bool = False,
    done: Callable[[float], None] = lambda share: None,
) -> NDArray[Any]:
    """Enlarges a picture, a tile at a time; the same as at once, within 1/255.

    A tile sees as much around it as the network does (`receptive_field`), and begins at a multiple of its `stride`.
    Where memory runs out, tiles of half the side are tried.

    Args:
        net: Of RGB, in evaluation mode.
        pixels: The picture.
        out: Where to, (scale * H, scale * W, 3) of the same type; None for a new array.
        tile: Side of a tile, in pixels of the picture; None for what the memory at hand suggests (`tile_at_hand`).
        bfloat16: Whether to work out 8-bit pictures in bfloat16.
        done: Told, after each tile, which share of the picture is done.

    Returns:
        The picture, `scale` times as large.

    Raises:
        UserError: The network looks at the whole picture, or memory does not suffice for the smallest tile.
    """
    if net.receptive_field is None:
        raise UserError(f"{type(net).__name__} looks at the whole picture at once: it cannot enlarge one in tiles.")
    height, width, _ = pixels.shape
    scale, stride = net.scale, net.stride
    around = -(-((net.receptive_field - 1) // 2) // stride) * stride
    side = max(stride, (tile or tile_at_hand(net)) // stride * stride)
    if out is None:
        out = np.empty((scale * height, scale * width, 3), pixels.dtype)
    top = 0
    while top < height:
        left, rows = 0, min(side, height - top)
        while left < width:
            try:
                columns = min(side, width - left)
                first, start = max(0, top - around), max(0, left - around)
                part = pixels[first : top + rows + around, start : left + columns + around]
                answer = _answer(net, part, bfloat16 and pixels.dtype == np.uint8)
                cut = answer[scale * (top - first) :, scale * (left - start) :][: scale * rows, : scale * columns]
                out[scale * top : scale * (top + rows), scale * left : scale * (left + columns)] = cut
            except (RuntimeError, MemoryError) as error:
                if not _no_memory(error):
                    raise
                if side // 2 < max(LEAST, stride):
                    raise UserError(
                        f"memory does not suffice for tiles of {side}x{side}: close other programs"
                    ) from error
                side = side // 2 // stride * stride
                rows = min(side, height - top)
                left = 0
                continue
            left += columns
            done((top * width + rows * left) / (height * width))
        top += rows
    return out


def tile_at_hand(net: Net) -> int:
    """Side of the tiles for which a third of the memory at hand suffices, from 32 to 256 pixels.

    Estimated from the network's widest convolution; 64 channels where it tells of none.

    Args:
        net: With a finite `receptive_field`.
    """
    assert net.receptive_field is not None
    widest = max((weight.shape[0] for weight in net.parameters() if weight.ndim == 4), default=64)
    device = _device(net)
    at_hand = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    side = int((at_hand / 3 / (MAPS * 4 * widest)) ** 0.5) - (net.receptive_field - 1)
    return min(MOST, max(LEAST, side))


def _device(net: Net) -> torch.device:
    return next((tensor.device for tensor in net.parameters()), torch.device("cpu"))


@torch.inference_mode()
def _answer(net: Net, part: NDArray[Any], bfloat16: bool) -> NDArray[Any]:
    device = _device(net)
    x = _floats(part).to(device).contiguous(memory_format=torch.channels_last)
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        return _whole_numbers(net(x).float(), part.dtype)


def _floats(part: NDArray[Any]) -> Tensor:
    return torch.from_numpy(part.astype(np.float32).transpose(2, 0, 1).copy())[None] / np.iinfo(part.dtype).max


def _whole_numbers(x: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    return (x[0].clamp(0, 1) * np.iinfo(dtype).max).round().permute(1, 2, 0).cpu().numpy().astype(dtype)


def _no_memory(error: BaseException) -> bool:
    # PyTorch's words on a CPU: the first on Linux and macOS, the second on Windows.
    said = ("can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(words in str(error) for words in said)


@torch.inference_mode()
def colorize(
    net: Net,
    pixels: Pixels,
    out: NDArray[Any] | None = None,
    *,
    render_size: int = 64,
    saturation: float = 1.0,
    done: Callable[[float], None] = lambda share: None,
) -> NDArray[Any]:
    """Colours a picture, whose luma stays as it is.

    The network sees the picture's luma at `render_size`, each pixel the mean of what it stands for; the chroma of its
    answer is enlarged (bicubic) and put to the picture's own luma (`images.with_luma`).

    Args:
        net: From gray to RGB, in evaluation mode.
        pixels: The picture; its colours, if any, do not count.
        out: Where to, of the same shape and type; None for a new array.
        render_size: Shorter side of what the network sees, in pixels; the picture's own, if that is shorter.
        saturation: Factor on the chroma.
        done: Told which share of the picture is done.

    Returns:
        The picture in colour.
    """
    height, width, _ = pixels.shape
    factor = max(1.0, min(height, width) / render_size)
    rows, columns = max(1, round(height / factor)), max(1, round(width / factor))
    small = torch.empty(1, 1, rows, columns)
    for row in range(rows):
        first, last = row * height // rows, -(-(row + 1) * height // rows)
        band = images.luma(_floats(pixels[first:last, 0:width]))
        small[:, :, row] = F.adaptive_avg_pool2d(band, (1, columns))[:, :, 0]
    answer = net(small.to(_device(net))).float().cpu().clamp(0, 1)
    chroma = saturation * (answer - images.luma(answer))
    if out is None:
        out = np.empty((height, width, 3), pixels.dtype)
    across = (torch.arange(width) + 0.5) / width * 2 - 1
    strip = max(1, STRIP // width)
    for top in range(0, height, strip):
        bottom = min(height, top + strip)
        down = (torch.arange(top, bottom) + 0.5) / height * 2 - 1
        grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), 2)[None]
        large = F.grid_sample(chroma, grid, mode="bicubic", padding_mode="border", align_corners=False)
        gray = images.luma(_floats(pixels[top:bottom, 0:width]))
        out[top:bottom] = _whole_numbers(images.with_luma(gray + large, gray), out.dtype)
        done(bottom / height)
    return out
