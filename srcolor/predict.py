"""A person's own pictures, larger and in colour: `srcolor-predict photo.jpg`."""

import argparse
import glob
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from srcolor import __version__, foreign, hardware, pictures, runs, tiles
from srcolor.errors import UserError
from srcolor.nets import Net, fused

MODES = ("upscale", "colorize", "restore")
SHIPPED = {"upscale": "srcolor/sr_x2_small", "colorize": "srcolor/colorize64"}
LARGE = 2**28  # bytes of a result from which on it lies in a file


class Job(NamedTuple):
    """A picture file, and where its result goes."""

    source: Path
    result: Path

    @property
    def comparison(self) -> Path:
        """Where the result goes beside what it was made of."""
        return self.result.with_stem(f"{self.result.stem}_compare")


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Reads the words of the command line."""
    parser = argparse.ArgumentParser(prog="srcolor-predict", description="Makes pictures larger, or colours them.")
    add = parser.add_argument
    add("inputs", nargs="*", help="picture files, folders of them, or patterns such as '*.tif'")
    add("-m", "--mode", choices=MODES, default="upscale", help="twice the size, colour, or both (%(default)s)")
    add("-o", "--output", type=Path, help="a folder for the results; else they are put beside the pictures")
    add("--run", help="the network: a run folder, a file, latest, srcolor/<name>, a .onnx file, spandrel:<file>")
    add("--sr-run", help="with --mode restore: the network that enlarges")
    add("--render-size", default="64", help="sides at which the picture is coloured: 64, or with --sheet 48,64,96")
    add("--saturation", type=float, default=1.0, help="factor on the colours (%(default)s)")
    add("--sheet", action="store_true", help="a sheet of the picture coloured at each of --render-size, to choose from")
    add("--compare", action="store_true", help="before | after, beside the result")
    add("--overwrite", action="store_true", help="make results anew that are there already")
    add("--tile", type=int, help="side of what is enlarged at once; if not given, as the memory at hand suggests")
    add("--max-megapixels", type=float, default=250, help="the largest picture that is taken for one (%(default)s)")
    add("--version", action="version", version=__version__)
    words = list(sys.argv[1:] if words is None else words)
    end = words.index("--") if "--" in words else len(words)  # argparse loses it between options and inputs
    asked = parser.parse_intermixed_args(words[:end])
    asked.inputs += words[end + 1 :]
    if not asked.inputs:
        parser.error("name a picture, a folder of pictures, or a pattern")
    try:
        asked.render_sizes = [int(size) for size in asked.render_size.split(",")]
    except ValueError:
        parser.error(f"--render-size {asked.render_size}: expected whole numbers, 64 or 48,64,96")
    if min(asked.render_sizes) < 8:
        parser.error(f"--render-size {asked.render_size}: expected at least 8")
    if len(asked.render_sizes) > 1 and not asked.sheet:
        parser.error(f"--render-size {asked.render_size}: several sizes are for --sheet")
    if asked.sheet and (asked.mode == "upscale" or asked.compare):
        parser.error("--sheet shows colours beside each other: give --mode colorize, and no --compare")
    if not 0 <= asked.saturation < float("inf"):
        parser.error(f"--saturation {asked.saturation:g}: expected a number from 0 on")
    if asked.mode == "upscale" and (asked.saturation != 1 or asked.render_size != parser.get_default("render_size")):
        parser.error("--saturation and --render-size are for colours: give --mode colorize or restore")
    if asked.mode != "restore" and asked.sr_run is not None:
        parser.error(f"--sr-run is for --mode restore: with {asked.mode} the network is named by --run")
    if asked.tile is not None and asked.tile < 1:
        parser.error(f"--tile {asked.tile}: expected at least 1")
    try:
        what = "sheet" if asked.sheet else asked.mode
        asked.jobs = list(jobs(asked.inputs, asked.output, what, overwrite=asked.overwrite, compare=asked.compare))
    except UserError as error:
        parser.error(str(error))
    return asked


def jobs(
    inputs: Sequence[str], output: Path | None, what: str, *, overwrite: bool = False, compare: bool = False
) -> Iterator[Job]:
    """Says which files are meant, and where their results go: `<stem>_<what>`, with the same suffix.

    Results of earlier calls are not taken for pictures, unless they are to be overwritten: then a file that is named
    and would be a result is an error.

    Raises:
        UserError: There is no such file; or two results would have one name, or that of a picture.
    """
    sources: dict[Path, Path] = {}  # and their place below -o
    files: list[Path] = []
    for name in inputs:
        path = Path(name)
        if not path.exists():
            path = Path(os.path.expanduser(name))  # where no shell did
        if path.is_dir():
            found = _without_results([file for file in sorted(path.rglob("*")) if _is_picture(file)])
            if not found:
                raise UserError(f"{name}: no picture in this folder; known are {', '.join(pictures.SUFFIXES)}")
            sources |= {file: file.relative_to(path) for file in found}
        elif path.exists():
            files.append(path)
        else:
            matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
            found = _without_results([file for file in matches if file.is_file()])
            if not found:
                raise UserError(f"{name}: no such file or folder, and as a pattern it matches no file")
            sources |= {file: Path(file.name) for file in found}
    sources |= {file: Path(file.name) for file in (files if overwrite else _without_results(files))}
    named = {_place(source): source for source in sources}
    taken: dict[Path, Path] = {}
    for source, place in sources.items():
        folder = source.parent if output is None else output / place.parent
        suffix = source.suffix if source.suffix.lower() in pictures.SUFFIXES else ".png"
        job = Job(source, folder / f"{source.stem}_{what}{suffix}")
        for result in (job.result, job.comparison) if compare else (job.result,):
            key = _place(result)
            if key in taken:
                raise UserError(f"{taken[key]} and {source} would both become {result}: give them different names")
            if key in named and named[key] != source:
                raise UserError(
                    f"{named[key]} is named as a picture, and would be the result of {source}: name one of them"
                )
            taken[key] = source
        yield job


def _place(file: Path) -> Path:
    """Tells files apart, whatever folders they are reached by."""
    return file.parent.resolve() / file.name


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in pictures.SUFFIXES and not file.name.startswith(".") and file.is_file()


def _without_results(files: list[Path]) -> list[Path]:
    """Leaves out what is named as the result of another of the files, wherever it lies."""
    names = {file.name for file in files}
    made = re.compile(rf"(.+)_({'|'.join((*MODES, 'sheet'))})(_compare)?", re.DOTALL)
    found = {file: made.fullmatch(file.stem) for file in files}
    return [file for file, match in found.items() if match is None or match[1] + file.suffix not in names]


def load(run: str, mode: str) -> Net:
    """Loads a network for a mode, `upscale` or `colorize`, in the form and on the device that it is used in.

    Raises:
        UserError: It is of another kind.
    """
    if run.endswith(".onnx"):
        net: Net = foreign.Onnx(Path(os.path.expanduser(run)))
    else:
        net = cast(Net, fused(runs.load_net(run)).eval())
    fits = net.scale > 1 and net.inputs != 1 if mode == "upscale" else net.scale == 1 and net.inputs == 1
    if not fits:
        wanted = "one that enlarges RGB" if mode == "upscale" else "one from gray to colour, of the same size"
        raise UserError(f"--run {run}: {type(net).__name__} is no network for this: expected {wanted}.")
    return net.to(hardware.choose().accelerator)


class Worker:
    """Turns pictures into results.

    Args:
        asked: What `parse` answers.
    """

    def __init__(self, asked: argparse.Namespace) -> None:
        self.asked = asked
        mode = asked.mode
        run, other = asked.run, asked.sr_run
        self.colour = None if mode == "upscale" else load(run or SHIPPED["colorize"], "colorize")
        enlarging = run if mode == "upscale" else other
        self.sr = None if mode == "colorize" else load(enlarging or SHIPPED["upscale"], "upscale")
        # How a network from elsewhere bears bfloat16 is not known.
        own = not isinstance(self.sr, foreign.Spandrel)
        self.bfloat16 = own and hardware.choose().precision == "bf16-mixed"

    def work(self, source: pictures.Picture, done: Callable[[float], None]) -> NDArray[Any]:
        """Answers the result of a picture, (H, W, 3), of its type."""
        pixels: tiles.Pixels = source
        shares = 1.0 if self.colour is None or self.sr is None else 0.5
        if self.colour is not None:
            out = _room(source.shape[:2], source.dtype)
            pixels = tiles.colorize(
                self.colour,
                pixels,
                out,
                render_size=self.asked.render_sizes[0],
                saturation=self.asked.saturation,
                done=lambda share: done(shares * share),
            )
        if self.sr is not None:
            height, width = (self.sr.scale * side for side in source.shape[:2])
            pixels = tiles.enlarge(
                self.sr,
                pixels,
                _room((height, width), source.dtype),
                tile=self.asked.tile,
                bfloat16=self.bfloat16,
                done=lambda share: done(1 - shares + shares * share),
            )
        return cast(NDArray[Any], pixels)

    def sheet(self, source: pictures.Picture) -> NDArray[Any]:
        """Answers the picture coloured at each size, side by side, at most 512 pixels high."""
        assert self.colour is not None
        small = _shrunk(source)
        made = [
            tiles.colorize(self.colour, small, render_size=size, saturation=self.asked.saturation)
            for size in self.asked.render_sizes
        ]
        return np.concatenate(made, 1)


def _room(size: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """An array for a result; a large one lies in a file that is gone with it, not in memory."""
    shape = (*size, 3)
    most = int(np.prod(shape)) * dtype.itemsize
    if most < LARGE:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):  # macOS and Windows have none
            os.posix_fallocate(file.fileno(), 0, most)  # a full disk is an error here, not a crash later
        return np.memmap(file, dtype, "r+" if file.seek(0, os.SEEK_END) else "w+", shape=shape)


def _shrunk(source: pictures.Picture, most: int = 512) -> NDArray[Any]:
    factor = min(1.0, most / source.image.height)
    return source.image.resize(factor).numpy()


def main(words: Sequence[str] | None = None) -> int:
    """The command. Answers its exit code: 0, or 1 if a picture failed; 2 is for a command that cannot be."""
    asked = parse(words)
    hardware.setup()
    console = Console(stderr=True)
    try:
        worker = Worker(asked)
        for folder in {job.result.parent for job in asked.jobs if _missing(job, asked)}:
            _check_folder(folder)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    failed: list[tuple[Path, str]] = []
    made = skipped = 0
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %"),
        TimeRemainingColumn(),
    )
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(1) as writer,
        Progress(*columns, console=console, disable=not console.is_terminal) as bar,
    ):
        task = bar.add_task("", total=len(asked.jobs))
        todo = [job for job in asked.jobs if _missing(job, asked)]
        skipped = len(asked.jobs) - len(todo)
        bar.advance(task, skipped)
        opening = [reader.submit(_open, job, asked) for job in todo[:1]]
        writing: list[tuple[Job, Future[None]]] = []
        for place, job in enumerate(todo):
            opening += [reader.submit(_open, other, asked) for other in todo[place + 1 : place + 2]]
            bar.update(task, description=job.source.name)
            try:
                source = opening.pop(0).result()
                for remark in source.remarks:
                    console.print(f"{job.source}: {remark}", markup=False, highlight=False, emoji=False, soft_wrap=True)
                before = bar.tasks[0].completed
                result = (
                    worker.sheet(source)
                    if asked.sheet
                    else worker.work(
                        source,
                        lambda share, before=before: bar.update(task, completed=before + share),  # type: ignore[misc]
                    )
                )
                writing.append((job, writer.submit(_save, job, source, result, asked)))
                bar.update(task, completed=before + 1)
            except Exception as error:  # whatever it is, the others go on
                failed.append((job.source, _told(error)))
                bar.advance(task)
            while len(writing) > 1:  # not many results in memory at once
                made += _written(*writing.pop(0), failed)
        for each in writing:
            made += _written(*each, failed)
    parts = [f"{made} made", *([f"{skipped} there already (--overwrite makes them anew)"] if skipped else [])]
    print(", ".join([*parts, *([f"{len(failed)} failed:"] if failed else [])]))
    for file, reason in failed:
        print(f"  {os.fsencode(file).decode(errors='replace')}: {reason}")  # not all names are UTF-8
    return 1 if failed else 0


def _check_folder(folder: Path) -> None:
    """Makes the folder, and a file in it that is gone at once: before the networks' work, not after."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f"{folder}: no results can be written there ({error.strerror}): name another with -o"
        ) from error


def _open(job: Job, asked: argparse.Namespace) -> pictures.Picture:
    source = pictures.read(job.source, asked.max_megapixels)
    if os.path.exists(job.result) and os.path.samefile(job.source, job.result):
        raise UserError("its result would be the picture itself")
    if int(np.prod(source.shape)) * source.dtype.itemsize < LARGE:
        source.load()  # while the network is at work on the one before
    if asked.mode != "upscale" and source.has_colours():
        source.remarks.append("in colour; taken as if it were gray")
    if asked.sheet:
        sizes = ", ".join(map(str, asked.render_sizes))
        source.remarks.append(f"on its sheet, from left to right, coloured at {sizes}")
    return source


def _save(job: Job, source: pictures.Picture, result: NDArray[Any], asked: argparse.Namespace) -> None:
    missing = _missing(job, asked)
    opaque = pictures.Picture(source.image)
    after = pictures.of(result)
    if job.result in missing:
        gray = source.gray and asked.mode == "upscale"
        pictures.write(job.result, after, opaque if asked.sheet else source, gray=gray)
    if job.comparison in missing:
        before = source.image.resize(after.height // source.image.height, kernel="nearest")
        pictures.write(job.comparison, before.join(after, "horizontal"), opaque)


def _missing(job: Job, asked: argparse.Namespace) -> list[Path]:
    """The files that are to be made."""
    wanted = [job.result, *([job.comparison] if asked.compare else [])]
    return [file for file in wanted if asked.overwrite or not file.is_file()]


def _written(job: Job, writing: Future[None], failed: list[tuple[Path, str]]) -> int:
    try:
        writing.result()
    except Exception as error:  # whatever it is, the others go on
        failed.append((job.source, _told(error)))
        return 0
    return 1


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, UserError | OSError) else f"{type(error).__name__}: {error}"
