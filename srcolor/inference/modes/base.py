"""Base class of the modes of `srcolor-predict`, and the networks that they accept."""

import argparse
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import pyvips
from numpy.typing import NDArray

from srcolor import hardware, runs
from srcolor.errors import UserError
from srcolor.inference import image_files, tiles
from srcolor.nets import Net, fused
from srcolor.runs.onnx_model import Onnx

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

    def accepts(self, net: Net) -> bool:
        """Return whether a network is of this kind."""
        return (net.scale > 1, net.inputs == 1, net.logits) == (self.enlarges, self.gray, self.logits)


CLEAN = Kind("a restoration network for RGB or the luma, of scale 1")


def load(run: str, kind: Kind, sharpness: float | None = None) -> Net:
    """Load a network for inference: fused, in evaluation mode, on the fastest device.

    Args:
        run: Run or network name, see `runs.find`; or a `.onnx` file.
        kind: The required kind.
        sharpness: See `runs.load_net`.

    Raises:
        UserError: If the network cannot be found, or is of a different kind.
    """
    if run.endswith(".onnx"):
        if sharpness is not None:
            raise UserError(f"--sharpness requires a run of srcolor; {run} has one network only.")
        net: Net = Onnx(Path(os.path.expanduser(run)))
    else:
        net = cast(Net, fused(runs.load_net(run, sharpness)).eval())
    if not kind.accepts(net):
        option, what = ("--clean-run", "option") if kind is CLEAN else ("--run", "mode")
        fix = ""
        if net.logits and not kind.logits:
            fix = " It returns the logits of classes, not an image: use it with --mode segment."
        elif CLEAN.accepts(net):
            fix = " It restores images at their own size: pass it as --clean-run."
        name = type(net).__name__
        raise UserError(f"{option} {run}: {name} does not match this {what}: expected {kind.expected}.{fix}")
    return net.to(hardware.choose().accelerator)


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
        stages: Functions of an image and a callback for the finished fraction, applied in turn.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    kind: ClassVar[Kind]
    default: ClassVar[str | None]
    options: ClassVar[frozenset[str]]

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.bfloat16 = hardware.choose().precision == "bf16-mixed"
        self.stages: list[Stage] = []
        if args.clean_run is not None:
            self.stages.append(self._enlarge(load(args.clean_run, CLEAN)))

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

    def predict(self, source: image_files.Picture, done: Callable[[float], None]) -> NDArray[Any]:
        """Return the result of an image, (H, W, ...); `done` is called with the finished fraction."""
        pixels: tiles.Pixels = source
        for number, stage in enumerate(self.stages):

            def show(part: float, number: int = number) -> None:
                done((number + part) / len(self.stages))

            pixels = stage(pixels, show)
        return cast(NDArray[Any], pixels)

    def outputs(self, source: image_files.Picture, result: NDArray[Any]) -> list[Output]:
        """Return the files to write for the result of an image."""
        after = image_files.to_image(result)
        if not self.args.compare:
            return [Output(after, source)]
        before = source.image.resize(after.height // source.image.height, kernel="nearest")
        return [Output(after, source), Output(before.join(after, "horizontal"), image_files.Picture(source.image))]

    def _enlarge(self, net: Net) -> Stage:
        """Return the stage that enlarges an image with a network, or restores it at a scale of 1."""

        def stage(pixels: tiles.Pixels, done: Callable[[float], None]) -> NDArray[Any]:
            height, width, _ = pixels.shape
            out = empty((net.scale * height, net.scale * width, 3), pixels.dtype)
            return tiles.enlarge(net, pixels, out, tile=self.args.tile, bfloat16=self.bfloat16, done=done)

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
