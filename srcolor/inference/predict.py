"""Enlarge, colorize, restore and segment image files: `srcolor-predict photo.jpg`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from srcolor.errors import UserError
from srcolor.inference import image_files, tiles
from srcolor.inference.jobs import Job
from srcolor.inference.modes import MODES, base
from srcolor.inference.options import parse

if TYPE_CHECKING:
    from srcolor.nets import Net


def load(run: str, mode: str, sharpness: float | None = None) -> "tiles.Engine | Net":
    """Load a network for `tiles.enlarge`, `tiles.segment` or `color.colorize`.

    Args:
        run: Run or network name, see `runs.find`; or a `.onnx` file.
        mode: A mode, for its network `--run`; or `clean`.
        sharpness: See `runs.load_net`.

    Raises:
        UserError: If the network cannot be found, or does not match the mode.
    """
    if mode in ("upscale", "clean"):
        return base.engine(run, base.CLEAN if mode == "clean" else MODES[mode].kind, sharpness)
    return base.load(run, MODES[mode].kind, sharpness)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        The exit code: 0; 1 if an image failed; 2 if the command is invalid.
    """
    args = parse(arguments)
    console = Console(stderr=True)
    todo = [job for job in args.jobs if _missing(job, args)]
    try:
        mode = MODES[args.mode](args)
        for folder in {job.results[0].parent for job in todo}:
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
        reading = [reader.submit(_open, job, mode) for job in todo[:1]]
        writing: list[tuple[Job, Future[None]]] = []
        for number, job in enumerate(todo):
            reading += [reader.submit(_open, following, mode) for following in todo[number + 1 : number + 2]]
            bar.update(task, description=job.source.name)
            before = bar.tasks[0].completed

            def show(fraction: float, before: float = before) -> None:
                bar.update(task, completed=before + fraction)

            try:
                source = reading.pop(0).result()
                for remark in source.remarks:
                    console.print(f"{job.source}: {remark}", markup=False, highlight=False, emoji=False, soft_wrap=True)
                result = mode.predict(source, show)
                writing.append((job, writer.submit(_save, job, source, result, mode)))
            except Exception as error:  # the other images are processed
                failed.append((job.source, message(error)))
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


def process(job: Job, mode: base.Mode, done: Callable[[float], None]) -> list[str]:
    """Write the results of one image, as the command does.

    Args:
        job: The image, and the files of its results.
        mode: The mode.
        done: Called with the finished fraction.

    Returns:
        Messages about the image.

    Raises:
        UserError: If it cannot be read or processed.
    """
    source = _open(job, mode)
    _save(job, source, mode.predict(source, done), mode)
    return source.remarks


def message(error: Exception) -> str:
    """Return the line that the command prints about an image that failed."""
    return str(error) if isinstance(error, UserError | OSError) else f"{type(error).__name__}: {error}"


def _check_folder(folder: Path) -> None:
    """Create the directory, and check that files can be written there, before the networks run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        message = f"{folder}: cannot write results there ({error.strerror}). Choose another folder with -o"
        raise UserError(message) from error


def _open(job: Job, mode: base.Mode) -> image_files.Picture:
    source = image_files.read(job.source, mode.args.max_megapixels)
    if any(os.path.exists(result) and os.path.samefile(job.source, result) for result in job.results):
        raise UserError("the result would replace the image itself")
    if int(np.prod(source.shape)) * source.dtype.itemsize < base.LARGE:
        source.load()  # while the network processes the previous image
    source.remarks += mode.remarks(source) + image_files.losses(source, job.results[0].suffix)
    return source


def _save(job: Job, source: image_files.Picture, result: NDArray[Any], mode: base.Mode) -> None:
    missing = _missing(job, mode.args)
    for file, output in zip(job.results, mode.outputs(source, result), strict=True):
        if file in missing:
            image_files.write(file, output.image, output.source, gray=output.gray, quality=mode.args.quality)


def _missing(job: Job, args: argparse.Namespace) -> list[Path]:
    """Return the files to write."""
    return [file for file in job.results if args.overwrite or not file.is_file()]


def _finish_write(job: Job, writing: Future[None], failed: list[tuple[Path, str]]) -> bool:
    """Wait for a result to be written; add a failure to `failed`."""
    try:
        writing.result()
    except Exception as error:  # the other images are processed
        failed.append((job.source, message(error)))
        return False
    return True
