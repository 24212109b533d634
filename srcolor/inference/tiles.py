"""Apply networks to images of any size, in tiles: enlarge, restore or segment. Imports no torch by itself."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from srcolor.errors import UserError

if TYPE_CHECKING:
    from srcolor.nets import Net

SMALLEST = 32  # side of tiles
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


@runtime_checkable
class Engine(Protocol):
    """A network that is applied to parts of an image: `OnnxEngine` or `TorchEngine`.

    Attributes:
        name: Name for error messages.
        scale: See `nets.Net`.
        stride: See `nets.Net`.
        receptive_field: See `nets.Net`.
        widest: Number of channels of the widest convolution.
        largest: Maximum side of a tile, unless the receptive field is larger.
    """

    name: str
    scale: int
    stride: int
    receptive_field: int | None
    widest: int
    largest: int

    def free_memory(self) -> int:
        """Return the free memory in bytes."""

    def enlarge(self, part: NDArray[Any]) -> NDArray[Any]:
        """Return the enlarged part: (h, w, 3) to (scale * h, scale * w, 3), of the same type, uint8 or uint16.

        Raises:
            MemoryError: If there is not enough memory; or a `RuntimeError` that `out_of_memory` recognizes.
        """


def enlarge(
    net: "Engine | Net",
    pixels: Pixels,
    out: NDArray[Any] | None = None,
    *,
    tile: int | None = None,
    done: Callable[[float], None] = lambda fraction: None,
) -> NDArray[Any]:
    """Enlarge an image in tiles, see `_apply`; the result equals that of the untiled image within 1/255.

    Args:
        net: An engine, or a network from RGB to RGB in evaluation mode; at a scale of 1, it restores the image.
        pixels: The image.
        out: Array for the result, (scale * H, scale * W, 3) of the same type; if None, a new one.
        tile: Side of a tile, in pixels of the image; if None, it depends on the free memory (`tile_size`).
        done: Called after each tile with the finished fraction.

    Returns:
        The enlarged image, (scale * H, scale * W, 3).

    Raises:
        UserError: If the receptive field is unlimited, or there is not enough memory for the smallest tile.
    """
    engine = _engine(net)
    if out is None:
        out = np.empty((engine.scale * pixels.shape[0], engine.scale * pixels.shape[1], 3), pixels.dtype)
    return _apply(engine, engine.enlarge, pixels, out, tile, done)


def segment(
    net: "Net",
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
    from srcolor.inference.torch_engine import TorchEngine  # imports torch

    if net.outputs is not None and net.outputs > 256:
        raise UserError(f"{type(net).__name__} has {net.outputs} classes: expected at most 256.")
    if out is None:
        out = np.empty(pixels.shape[:2], np.uint8)
    engine = TorchEngine(net)
    return _apply(engine, engine.classify, pixels, out, tile, done)


def _engine(net: "Engine | Net") -> Engine:
    """Return an engine as it is, and a network as a `TorchEngine`."""
    if isinstance(net, Engine):
        return net
    from srcolor.inference.torch_engine import TorchEngine  # imports torch

    return TorchEngine(net)


def _apply(
    engine: Engine,
    run: Callable[[NDArray[Any]], NDArray[Any]],
    pixels: Pixels,
    out: NDArray[Any],
    tile: int | None,
    done: Callable[[float], None],
) -> NDArray[Any]:
    """Apply a network in tiles, and return `out`.

    A tile is padded by the radius of the network's `receptive_field`, and starts at a multiple of its `stride`. If
    memory runs out, tiles of half the side are tried.

    Args:
        engine: The network.
        run: Its method from a part of the image, (h, w, 3), to that of the result, (scale * h, scale * w, ...).
        pixels: See `enlarge`.
        out: Array for the result; its first two dimensions are scale * H, scale * W.
        tile: See `enlarge`.
        done: See `enlarge`.

    Raises:
        UserError: See `enlarge`.
    """
    if engine.receptive_field is None:
        raise UserError(f"{engine.name} has an unlimited receptive field: it cannot be applied in tiles.")
    height, width, _ = pixels.shape
    scale, stride = engine.scale, engine.stride
    margin = -(-((engine.receptive_field - 1) // 2) // stride) * stride
    side = max(stride, (tile or tile_size(engine)) // stride * stride)
    top = 0
    while top < height:
        left, rows = 0, min(side, height - top)
        while left < width:
            try:
                columns = min(side, width - left)
                first, start = max(0, top - margin), max(0, left - margin)
                result = run(pixels[first : top + rows + margin, start : left + columns + margin])
                inner = result[scale * (top - first) :, scale * (left - start) :][: scale * rows, : scale * columns]
                out[scale * top : scale * (top + rows), scale * left : scale * (left + columns)] = inner
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
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


def tile_size(net: "Engine | Net") -> int:
    """Return the side of tiles that need at most a third of the free memory, at least 32 pixels.

    It is at most `Engine.largest`, or twice the receptive field, so that the padding is not most of the work. Memory is
    estimated from the network's widest convolution, or from 64 channels if it has none.

    Args:
        net: A network with a finite `receptive_field`.
    """
    engine = _engine(net)
    assert engine.receptive_field is not None
    side = int((engine.free_memory() / 3 / (MAPS * 4 * engine.widest)) ** 0.5) - (engine.receptive_field - 1)
    return min(max(engine.largest, 2 * (engine.receptive_field - 1)), max(SMALLEST, side))


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of PyTorch or Python says that there is not enough memory."""
    # PyTorch's messages on a CPU: the first on Linux and macOS, the second on Windows.
    messages = ("can't allocate memory", "not enough memory")
    is_memory_error = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"  # of PyTorch
    return is_memory_error or any(text in str(error) for text in messages)
