"""Enlarge, colorize and restore image files: `srcolor-predict photo.jpg`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from srcolor import hardware, runs
from srcolor.errors import UserError
from srcolor.inference import colorings, image_files, tiles
from srcolor.inference.jobs import Job
from srcolor.inference.options import parse
from srcolor.nets import Net, fused
from srcolor.runs.onnx_model import Onnx

SHIPPED = {"upscale": "srcolor/sr_x2_small", "colorize": "srcolor/colorize64"}
EXPECTED = {
    "upscale": "a super-resolution network for RGB",
    "colorize": "a network from gray to RGB, of scale 1",
    "clean": "a restoration network for RGB or the luma, of scale 1",
}
LARGE = 2**28  # minimum size in bytes of a result that is kept in a file instead of in memory


def load(run: str, mode: str, sharpness: float | None = None) -> Net:
    """Load a network for inference: fused, in evaluation mode, on the fastest device.

    Args:
        run: Run or network name, see `runs.find`; or a `.onnx` file.
        mode: `upscale`, `colorize` or `clean`.
        sharpness: See `runs.load_net`.

    Raises:
        UserError: If the network cannot be found, does not match the mode, or returns no images.
    """
    if run.endswith(".onnx"):
        if sharpness is not None:
            raise UserError(f"--sharpness requires a run of srcolor; {run} has one network only.")
        net: Net = Onnx(Path(os.path.expanduser(run)))
    else:
        net = cast(Net, fused(runs.load_net(run, sharpness)).eval())
    kinds = {(True, False): "upscale", (False, True): "colorize", (False, False): "clean"}
    kind = None if getattr(net, "logits", False) else kinds.get((net.scale > 1, net.inputs == 1))
    if kind != mode:
        option, what = ("--clean-run", "option") if mode == "clean" else ("--run", "mode")
        fix = " It restores images at their own size: pass it as --clean-run." if kind == "clean" else ""
        name = type(net).__name__
        raise UserError(f"{option} {run}: {name} does not match this {what}: expected {EXPECTED[mode]}.{fix}")
    return net.to(hardware.choose().accelerator)


class Predictor:
    """The networks of a mode, applied to one image after the other.

    Args:
        args: The options, see `parse`.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        sr_run = args.run if args.mode == "upscale" else args.sr_run
        self.clean = None if args.clean_run is None else load(args.clean_run, "clean")
        self.color = (
            None
            if args.mode == "upscale"
            else load(args.run or SHIPPED["colorize"], "colorize", args.sharpness if args.mode == "colorize" else None)
        )
        self.choice = colorings.Choice(
            args.pick,
            colorings.DEFAULT_TEMPERATURE if args.temperature is None else args.temperature,
            args.tint,
            None if args.reference is None else colorings.reference_code(args.reference, args.max_megapixels),
        )
        self.chosen = None if self.color is None else colorings.Chosen(self.color, self.choice)
        if self.color is not None and (args.samples is not None or args.pick is not None):
            colorings.check_samples(self.color)
        self.sr = None if args.mode == "colorize" else load(sr_run or SHIPPED["upscale"], "upscale", args.sharpness)
        self.bfloat16 = hardware.choose().precision == "bf16-mixed"
        self.render_sizes: list[int] = args.render_sizes or ([] if self.color is None else [self.color.render_size])

    def predict(self, source: image_files.Picture, done: Callable[[float], None]) -> NDArray[Any]:
        """Return the result of an image, (H, W, 3), of its type; `done` is called with the finished fraction."""
        pixels: tiles.Pixels = source
        stages = [net for net in (self.clean, self.chosen, self.sr) if net is not None]
        for number, net in enumerate(stages):

            def show(part: float, number: int = number) -> None:
                done((number + part) / len(stages))

            if net is self.chosen:
                out, size, saturation = _empty(pixels.shape, pixels.dtype), self.render_sizes[0], self.args.saturation
                pixels = tiles.colorize(net, pixels, out, render_size=size, saturation=saturation, done=show)
            else:
                pixels = self._enlarge(net, pixels, show)
        return cast(NDArray[Any], pixels)

    def sheet(self, source: image_files.Picture) -> NDArray[Any]:
        """Return colorings of the image side by side, reduced: samples, or one per render size.

        The networks see the whole image, as in `predict`, so the colors are those of the full-size result.
        """
        assert self.color is not None
        assert self.chosen is not None
        if self.clean is not None:
            source = image_files.Picture(image_files.to_image(self._enlarge(self.clean, source)))
        height, width, _ = source.shape
        if self.args.samples is None:
            small = source.reduced(min(colorings.SIDE / height, colorings.SHEET_WIDTH / len(self.render_sizes) / width))
            grays = [(size, tiles.reduced_luma(source, size)) for size in self.render_sizes]
            return np.concatenate([self._color(self.chosen, small, gray, size) for size, gray in grays], 1)
        small = source.reduced(colorings.SIDE / max(height, width))
        size = self.render_sizes[0]
        gray = tiles.reduced_luma(source, size)
        choices = (replace(self.choice, pick=number) for number in range(1, self.args.samples + 1))
        nets = [colorings.Chosen(self.color, choice) for choice in choices]
        return colorings.sheet([self._color(net, small, gray, size) for net in nets])

    def _color(self, net: Net, pixels: NDArray[Any], gray: Tensor, size: int) -> NDArray[Any]:
        """Colorize pixels with the chroma that a network predicts from the luma at a render size."""
        return tiles.with_chroma(pixels, tiles.chroma(net, gray, size, self.args.saturation))

    def _enlarge(
        self, net: Net, pixels: tiles.Pixels, done: Callable[[float], None] = lambda fraction: None
    ) -> NDArray[Any]:
        height, width, _ = pixels.shape
        out = _empty((net.scale * height, net.scale * width, 3), pixels.dtype)
        return tiles.enlarge(net, pixels, out, tile=self.args.tile, bfloat16=self.bfloat16, done=done)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array for a result; a large one is mapped to a temporary file."""
    count = int(np.prod(shape)) * dtype.itemsize
    if count < LARGE:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # not on macOS and Windows
            os.posix_fallocate(file.fileno(), 0, count)  # a full disk is an error here, not a crash later
        return np.memmap(file, dtype, "r+" if file.seek(0, os.SEEK_END) else "w+", shape=shape)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0; 1 if an image failed; 2 if the command is invalid.
    """
    args = parse(arguments)
    hardware.setup()
    console = Console(stderr=True)
    todo = [job for job in args.jobs if _missing(job, args)]
    try:
        predictor = Predictor(args)
        args.render_sizes = predictor.render_sizes
        for folder in {job.result.parent for job in todo}:
            _check_folder(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed: list[tuple[Path, str]] = []
    written = 0
    skipped = len(args.jobs) - len(todo)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:3.0f}%"),
        TimeRemainingColumn(),
    )
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("", total=len(args.jobs), completed=skipped)
        reading = [reader.submit(_open, job, args) for job in todo[:1]]
        writing: list[tuple[Job, Future[None]]] = []
        for number, job in enumerate(todo):
            reading += [reader.submit(_open, following, args) for following in todo[number + 1 : number + 2]]
            bar.update(task, description=job.source.name)
            before = bar.tasks[0].completed

            def show(fraction: float, before: float = before) -> None:
                bar.update(task, completed=before + fraction)

            try:
                source = reading.pop(0).result()
                for remark in source.remarks:
                    console.print(f"{job.source}: {remark}", markup=False, highlight=False, emoji=False, soft_wrap=True)
                result = predictor.sheet(source) if _is_sheet(args) else predictor.predict(source, show)
                writing.append((job, writer.submit(_save, job, source, result, args)))
            except Exception as error:  # the other images are processed
                failed.append((job.source, _message(error)))
            show(1)
            while len(writing) > 1:  # keep few results in memory
                written += _finish_write(*writing.pop(0), failed)
        for each in writing:
            written += _finish_write(*each, failed)
    parts = [f"{written} written", *([f"{skipped} skipped (--overwrite replaces existing results)"] if skipped else [])]
    print(", ".join([*parts, *([f"{len(failed)} failed:"] if failed else [])]))
    for file, reason in failed:
        print(f"  {os.fsencode(file).decode(errors='replace')}: {reason}")  # not all names are UTF-8
    return 1 if failed else 0


def _check_folder(folder: Path) -> None:
    """Create the directory, and check that files can be written there, before the networks run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        message = f"{folder}: cannot write results there ({error.strerror}). Choose another folder with -o"
        raise UserError(message) from error


def _open(job: Job, args: argparse.Namespace) -> image_files.Picture:
    source = image_files.read(job.source, args.max_megapixels)
    if os.path.exists(job.result) and os.path.samefile(job.source, job.result):
        raise UserError("the result would replace the image itself")
    if int(np.prod(source.shape)) * source.dtype.itemsize < LARGE:
        source.load()  # while the network processes the previous image
    if args.mode != "upscale" and source.has_color():
        source.remarks.append("has color; treated as gray")
    if args.sheet:
        sizes = ", ".join(map(str, args.render_sizes))
        source.remarks.append(f"sheet, from left to right: colorized at {sizes}")
    if args.samples is not None:
        repeated = args.repeated
        source.remarks.append(f"sheet of {args.samples} colorings; --pick NUMBER{repeated} writes one at full size")
    return source


def _save(job: Job, source: image_files.Picture, result: NDArray[Any], args: argparse.Namespace) -> None:
    missing = _missing(job, args)
    opaque = image_files.Picture(source.image)
    after = image_files.to_image(result)
    if job.result in missing:
        gray = source.gray and args.mode == "upscale"
        image_files.write(job.result, after, opaque if _is_sheet(args) else source, gray=gray)
    if job.comparison in missing:
        before = source.image.resize(after.height // source.image.height, kernel="nearest")
        image_files.write(job.comparison, before.join(after, "horizontal"), opaque)


def _is_sheet(args: argparse.Namespace) -> bool:
    """Return whether the result shows several colorings."""
    return args.sheet or args.samples is not None


def _missing(job: Job, args: argparse.Namespace) -> list[Path]:
    """Return the files to write."""
    files = [job.result, *([job.comparison] if args.compare else [])]
    return [file for file in files if args.overwrite or not file.is_file()]


def _finish_write(job: Job, writing: Future[None], failed: list[tuple[Path, str]]) -> bool:
    """Wait for a result to be written; add a failure to `failed`."""
    try:
        writing.result()
    except Exception as error:  # the other images are processed
        failed.append((job.source, _message(error)))
        return False
    return True


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, UserError | OSError) else f"{type(error).__name__}: {error}"
