"""Enlarge, colorize and restore image files: `srcolor-predict photo.jpg`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from srcolor import __version__, hardware, runs
from srcolor.errors import UserError
from srcolor.inference import image_files, jobs, tiles
from srcolor.inference.jobs import MODES, Job
from srcolor.nets import Net, fused
from srcolor.runs.onnx_model import Onnx

SHIPPED = {"upscale": "srcolor/sr_x2_small", "colorize": "srcolor/colorize64"}
EXPECTED = {
    "upscale": "a super-resolution network for RGB",
    "colorize": "a network from gray to RGB, of scale 1",
    "clean": "a restoration network for RGB or the luma, of scale 1",
}
LARGE = 2**28  # minimum size in bytes of a result that is kept in a file instead of in memory


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line; add `jobs` and `render_sizes` (empty: the network's own) to the options.

    Args:
        arguments: The arguments; if None, the arguments of the process.
    """
    parser = argparse.ArgumentParser(prog="srcolor-predict", description="Enlarge or colorize images.")
    add = parser.add_argument
    add("inputs", nargs="*", help="image files, folders, or patterns such as '*.tif'")
    add("-m", "--mode", choices=MODES, default="upscale", help="enlarge, colorize, or both (default: %(default)s)")
    add("-o", "--output", type=Path, help="folder for the results (default: the folder of each image)")
    add("--run", help="network: a run folder, a file, latest, srcolor/<name>, a .onnx file, spandrel:<file>")
    add("--sr-run", help="super-resolution network for --mode restore")
    add("--clean-run", help="restoration network that cleans each image first, in any mode: spandrel:<file>")
    add("--render-size", help="shorter side at which color is predicted (default: the network's; 64, DDColor 512)")
    add("--saturation", type=float, default=1.0, help="factor on the chroma (default: %(default)s)")
    add(
        "--sharpness",
        type=float,
        help="from 0, faithful, to 1, adversarial: for --run, or --sr-run with --mode restore",
    )
    add("--sheet", action="store_true", help="one image with a version for each size of --render-size 48,64,96")
    add("--compare", action="store_true", help="also write before and after side by side")
    add("--overwrite", action="store_true", help="overwrite existing results")
    add("--tile", type=int, help="tile size in pixels (default: from free memory)")
    add("--max-megapixels", type=float, default=250, help="refuse larger images (default: %(default)s)")
    add("--version", action="version", version=__version__)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)  # argparse drops it between options and inputs
    args = parser.parse_intermixed_args(arguments[:end])
    args.inputs += arguments[end + 1 :]
    if not args.inputs:
        parser.error("pass an image, a folder of images, or a pattern")
    try:
        args.render_sizes = [] if args.render_size is None else [int(size) for size in args.render_size.split(",")]
    except ValueError:
        parser.error(f"--render-size {args.render_size}: expected integers, 64 or 48,64,96")
    if min(args.render_sizes, default=8) < 8:
        parser.error(f"--render-size {args.render_size}: expected at least 8")
    if len(args.render_sizes) > 1 and not args.sheet:
        parser.error(f"--render-size {args.render_size}: multiple sizes require --sheet")
    if args.sheet and (args.mode == "upscale" or args.compare):
        parser.error("--sheet requires --mode colorize, and cannot be combined with --compare")
    if not 0 <= args.saturation < float("inf"):
        parser.error(f"--saturation {args.saturation:g}: expected a number of at least 0")
    if args.sharpness is not None and not 0 <= args.sharpness <= 1:
        parser.error(f"--sharpness {args.sharpness:g}: expected a number from 0 to 1")
    if args.mode == "upscale" and (args.saturation != 1 or args.render_size is not None):
        parser.error("--saturation and --render-size require --mode colorize or restore")
    if args.mode != "restore" and args.sr_run is not None:
        parser.error(f"--sr-run requires --mode restore; with --mode {args.mode} the network is --run")
    if args.tile is not None and args.tile < 1:
        parser.error(f"--tile {args.tile}: expected at least 1")
    try:
        ending = "sheet" if args.sheet else args.mode
        planned = jobs.plan(args.inputs, args.output, ending, overwrite=args.overwrite, compare=args.compare)
        args.jobs = list(planned)
    except UserError as error:
        parser.error(str(error))
    return args


def load(run: str, mode: str, sharpness: float | None = None) -> Net:
    """Load a network for inference: fused, in evaluation mode, on the fastest device.

    Args:
        run: Run or network name, see `runs.find`; or a `.onnx` file.
        mode: `upscale`, `colorize` or `clean`.
        sharpness: See `runs.load_net`.

    Raises:
        UserError: If the network cannot be found, or does not match the mode.
    """
    if run.endswith(".onnx"):
        if sharpness is not None:
            raise UserError(f"--sharpness requires a run of srcolor; {run} has one network only.")
        net: Net = Onnx(Path(os.path.expanduser(run)))
    else:
        net = cast(Net, fused(runs.load_net(run, sharpness)).eval())
    kinds = {(True, False): "upscale", (False, True): "colorize", (False, False): "clean"}
    kind = kinds.get((net.scale > 1, net.inputs == 1))
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
        self.sr = None if args.mode == "colorize" else load(sr_run or SHIPPED["upscale"], "upscale", args.sharpness)
        self.bfloat16 = hardware.choose().precision == "bf16-mixed"
        self.render_sizes: list[int] = args.render_sizes or ([] if self.color is None else [self.color.render_size])

    def predict(self, source: image_files.Picture, done: Callable[[float], None]) -> NDArray[Any]:
        """Return the result of an image, (H, W, 3), of its type; `done` is called with the finished fraction."""
        pixels: tiles.Pixels = source
        stages = [net for net in (self.clean, self.color, self.sr) if net is not None]
        for number, net in enumerate(stages):
            out = _empty(tuple(net.scale * side for side in source.shape[:2]), source.dtype)

            def show(part: float, number: int = number) -> None:
                done((number + part) / len(stages))

            if net is self.color:
                size, saturation = self.render_sizes[0], self.args.saturation
                pixels = tiles.colorize(net, pixels, out, render_size=size, saturation=saturation, done=show)
            else:
                pixels = tiles.enlarge(net, pixels, out, tile=self.args.tile, bfloat16=self.bfloat16, done=show)
        return cast(NDArray[Any], pixels)

    def sheet(self, source: image_files.Picture) -> NDArray[Any]:
        """Return the image, reduced to a height of at most 512 pixels, colorized at each size, side by side."""
        assert self.color is not None
        small = source.image.resize(min(1.0, 512 / source.image.height)).numpy()
        if self.clean is not None:
            small = tiles.enlarge(self.clean, small, tile=self.args.tile, bfloat16=self.bfloat16)
        saturation = self.args.saturation
        return np.concatenate(
            [tiles.colorize(self.color, small, render_size=size, saturation=saturation) for size in self.render_sizes],
            1,
        )


def _empty(size: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array for a result; a large one is mapped to a temporary file."""
    shape = (*size, 3)
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
                result = predictor.sheet(source) if args.sheet else predictor.predict(source, show)
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
    return source


def _save(job: Job, source: image_files.Picture, result: NDArray[Any], args: argparse.Namespace) -> None:
    missing = _missing(job, args)
    opaque = image_files.Picture(source.image)
    after = image_files.to_image(result)
    if job.result in missing:
        gray = source.gray and args.mode == "upscale"
        image_files.write(job.result, after, opaque if args.sheet else source, gray=gray)
    if job.comparison in missing:
        before = source.image.resize(after.height // source.image.height, kernel="nearest")
        image_files.write(job.comparison, before.join(after, "horizontal"), opaque)


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
