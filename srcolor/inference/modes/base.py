"""Base class of the modes of `srcolor-predict`, and the networks that they accept."""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, cast

import numpy as np
import pyvips
from numpy.typing import NDArray

from srcolor import bundled
from srcolor.errors import UserError
from srcolor.inference import image_files, tiles
from srcolor.inference.onnx_engine import OnnxEngine

if TYPE_CHECKING:
    from srcolor.nets import Net

WIDE = 48  # channels from which bfloat16 with AMX is faster than onnxruntime; with 32 it is not
FILE_OPTIONS = frozenset({"format", "quality"})  # of modes whose results are photographs
LARGE = 2**28  # minimum size in bytes of a result that is kept in a file instead of in memory

Stage = Callable[[tiles.Pixels, Callable[[float], None]], NDArray[Any]]


class Kind(NamedTuple):
    """A kind of network, distinguished by the properties that a network declares.

    Attributes:
        expected: Description for error messages.
        enlarges: Whether its scale is more than 1.
        gray: Whether its input is gray.
        logits: Whether its output is the logits of classes.
    """

    expected: str
    enlarges: bool = False
    gray: bool = False
    logits: bool = False

    def accepts(self, net: "Net | OnnxEngine") -> bool:
        """Return whether a network is of this kind."""
        return (net.scale > 1, net.inputs == 1, net.logits) == (self.enlarges, self.gray, self.logits)


CLEAN = Kind("a restoration network for RGB or the luma, of scale 1")


def load(run: str, kind: Kind, sharpness: float | None = None) -> "Net":
    """Load a network for inference in PyTorch: fused, in evaluation mode, on the fastest device.

    Args:
        run: Run or network name, see `runs.find`; or a `.onnx` file.
        kind: The required kind.
        sharpness: See `runs.load_net`.

    Raises:
        UserError: If the network cannot be found, or is of a different kind.
    """
    from srcolor import hardware, runs  # these import torch
    from srcolor.inference.onnx_net import OnnxNet
    from srcolor.nets import Net, fused

    hardware.setup()
    if run.endswith(".onnx"):
        _check_sharpness(run, sharpness)
        net: Net = OnnxNet(Path(os.path.expanduser(run)))
    else:
        net = cast(Net, fused(runs.load_net(run, sharpness)).eval())
    _check(run, kind, net, type(net).__name__)
    return net.to(hardware.choose().accelerator)


def engine(run: str, kind: Kind, sharpness: float | None = None, ensemble: bool = False) -> tiles.Engine:
    """Load a network that enlarges or restores images.

    onnxruntime runs `.onnx` files, and bundled networks where it is fastest; PyTorch runs everything else.

    Args:
        run: See `load`.
        kind: See `load`.
        sharpness: See `load`.
        ensemble: Whether to average over flips and rotations, see `nets.ensemble`; always in PyTorch.

    Raises:
        UserError: See `load`.
    """
    onnx = None if ensemble else _onnx(run, sharpness)
    if onnx is not None:
        _check(run, kind, onnx, onnx.name)
        return onnx
    from srcolor import hardware  # these import torch
    from srcolor.inference.torch_engine import TorchEngine
    from srcolor.nets.ensemble import Ensemble

    net = load(run, kind, sharpness)
    return TorchEngine(Ensemble(net) if ensemble else net, hardware.choose().precision == "bf16-mixed")


def _onnx(run: str, sharpness: float | None) -> OnnxEngine | None:
    """Return the engine of a `.onnx` file, or of a bundled network if onnxruntime is the fastest for it; else None.

    PyTorch is faster on a GPU, and for wide networks on a CPU with AMX, which multiplies bfloat16: see docs/speed.md.
    The machine is examined without importing torch.
    """
    if run.endswith(".onnx"):
        _check_sharpness(run, sharpness)
        return OnnxEngine(Path(os.path.expanduser(run)))
    if sharpness is not None or not bundled.has_onnx(run) or Path("/proc/driver/nvidia/version").exists():
        return None
    engine = OnnxEngine(bundled.find(run, ".onnx"))
    cpu = Path("/proc/cpuinfo")  # on Linux
    has_amx = cpu.exists() and "amx_bf16" in cpu.read_text()
    return None if has_amx and engine.widest >= WIDE else engine


def _check_sharpness(run: str, sharpness: float | None) -> None:
    if sharpness is not None:
        raise UserError(f"--sharpness requires a run of srcolor; {run} has one network only.")


def _check(run: str, kind: Kind, net: "Net | OnnxEngine", name: str) -> None:
    """Check that a network is of a kind."""
    if kind.accepts(net):
        return
    option, what = ("--clean-run", "option") if kind is CLEAN else ("--run", "mode")
    fix = ""
    if net.logits and not kind.logits:
        fix = " It returns the logits of classes, not an image: use it with --mode segment."
    elif CLEAN.accepts(net):
        fix = " It restores images at their own size: pass it as --clean-run."
    raise UserError(f"{option} {run}: {name} does not match this {what}: expected {kind.expected}.{fix}")


class Output(NamedTuple):
    """The content of a file to write; see `image_files.write`."""

    image: pyvips.Image
    source: image_files.Picture
    gray: bool = False


class Mode:
    """A mode: networks that are applied to one image after the other, in stages, and the files of their results.

    Args:
        args: The options, see `options.parse`.

    Attributes:
        name: Name on the command line.
        help: Its part of the help text of `--mode`.
        kind: Kind of the network `--run`.
        default: Default of `--run`; None if no such network is bundled.
        options: Options that not every mode has, as attributes of `args`.
        stages: Functions of an image and a callback for the finished fraction, applied in turn after `preparation`.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    kind: ClassVar[Kind]
    default: ClassVar[str | None]
    options: ClassVar[frozenset[str]]

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.stages: list[Stage] = []
        self._cleaning = [] if args.clean_run is None else [self._enlarge(engine(args.clean_run, CLEAN))]

    @classmethod
    def written(cls) -> tuple[str, ...]:
        """Return the endings of all files that the mode may write, `<stem>_<ending>`.

        An ending without a suffix gets that of the source.
        """
        return (cls.name, f"{cls.name}_compare")

    @classmethod
    def endings(cls, args: argparse.Namespace) -> tuple[str, ...]:
        """Return the endings of the files that the mode writes with these options, in the order of `outputs`."""
        return cls.written()[: 2 if args.compare else 1]

    @classmethod
    def check(cls, args: argparse.Namespace) -> None:
        """Check options that only this mode restricts.

        Raises:
            UserError: If one is invalid or missing.
        """

    def remarks(self, source: image_files.Picture) -> list[str]:
        """Return messages about an image."""
        return []

    def preparation(self, source: image_files.Picture) -> list[Stage]:
        """Return the first stages for an image, which keep its size."""
        return list(self._cleaning)

    def predict(self, source: image_files.Picture, done: Callable[[float], None]) -> NDArray[Any]:
        """Return the result of an image, (H, W, ...); `done` is called with the finished fraction."""
        pixels: tiles.Pixels = source
        stages = [*self.preparation(source), *self.stages]
        for number, stage in enumerate(stages):

            def show(part: float, number: int = number) -> None:
                done((number + part) / len(stages))

            pixels = stage(pixels, show)
        return cast(NDArray[Any], pixels)

    def outputs(self, source: image_files.Picture, result: NDArray[Any]) -> list[Output]:
        """Return the files to write for the result of an image."""
        after = image_files.to_image(result)
        if self.args.scale is not None:  # the network's factor is a larger integer
            after = image_files.resized(after, *(max(1, round(self.args.scale * side)) for side in source.size))
        if not self.args.compare:
            return [Output(after, source)]
        across, down = after.width / source.image.width, after.height / source.image.height
        before = source.image.resize(across, vscale=down, kernel="nearest")
        return [Output(after, source), Output(before.join(after, "horizontal"), image_files.Picture(source.image))]

    def _enlarge(self, net: tiles.Engine) -> Stage:
        """Return the stage that enlarges an image with a network, or restores it at a scale of 1."""

        def stage(pixels: tiles.Pixels, done: Callable[[float], None]) -> NDArray[Any]:
            height, width, _ = pixels.shape
            out = empty((net.scale * height, net.scale * width, 3), pixels.dtype)
            return tiles.enlarge(net, pixels, out, tile=self.args.tile, done=done)

        return stage


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array for a result; a large one is mapped to a temporary file."""
    count = int(np.prod(shape)) * dtype.itemsize
    if count < LARGE:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
            os.posix_fallocate(file.fileno(), 0, count)  # a full disk is an error here, not a crash later
        return np.memmap(file, dtype, "r+" if file.seek(0, os.SEEK_END) else "w+", shape=shape)
