"""The jobs of the page `srcolor-web`: command lines of `srcolor-predict`, run in the same process."""

import contextlib
import io
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from skimage import data

from srcolor import bundled
from srcolor.errors import UserError
from srcolor.inference import image_files, options, predict
from srcolor.inference.modes import MODES

PREVIEW = 1600  # maximum side of a picture on the page


class Task(NamedTuple):
    """What the page offers to do to a photograph: a mode of `srcolor-predict`.

    Attributes:
        label: Name on the page.
        mode: The mode.
        default: Name of the default network.
        dial: Whether `--sharpness` is set, which requires a network that has the dial.
    """

    label: str
    mode: str
    default: str
    dial: bool = False


TASKS = {
    "enlarge": Task("Enlarge", "upscale", "srcolor/sr_x2_small"),
    "colorize": Task("Colorize", "colorize", "srcolor/colorize64"),
    "restore": Task("Restore: repair if worn, colorize, enlarge", "restore", "srcolor/colorize64"),
    "sharpen": Task("Enlarge, with a dial for sharpness", "upscale", "srcolor/sr64to128_gan", dial=True),
}


class Canceled(Exception):
    """The job was canceled."""


@dataclass
class Results:
    """The results of a job.

    Attributes:
        pairs: Each photograph with its result.
        lines: Messages about the photographs, failures included.
        seconds: CPU time.
    """

    pairs: list[tuple[Path, Path]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    seconds: float = 0

    def summary(self) -> str:
        """Return what was written, as Markdown: a line per photograph, and the CPU time."""
        lines = []
        for _, result in self.pairs:
            height, width, _ = image_files.read(result, float("inf")).shape
            lines.append(f"`{result.name}`: {width}x{height} pixels, {result.stat().st_size / 1e6:.2f} MB")
        lines += self.lines
        return "\n\n".join([*lines, f"{self.seconds:.1f} CPU seconds"])

    def file(self) -> Path:
        """Return the result; if there are several, a ZIP file of them."""
        if len(self.pairs) == 1:
            return self.pairs[0][1]
        archive = self.pairs[0][1].parent / "srcolor.zip"
        with zipfile.ZipFile(archive, "w") as content:
            for _, result in self.pairs:
                content.write(result, result.name)
        return archive


def networks(named: Sequence[str]) -> dict[str, list[str]]:
    """Return the networks that each task accepts, the default first.

    Args:
        named: Names of networks to offer in addition to the bundled ones; see `runs.find`.

    Raises:
        UserError: If a named network does not exist, or no task accepts it.
    """
    names = list(dict.fromkeys([*(bundled.PREFIX + name for name in bundled.names()), *named]))
    accepted: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    for key, task in TASKS.items():
        accepted[key] = []
        for name in names:
            try:
                predict.load(name, task.mode, 0.5 if task.dial else None)
            except UserError as error:
                reasons[name] = reasons.get(name, str(error))
            else:
                accepted[key].append(name)
        accepted[key].sort(key=lambda name: name != task.default)
    for name in named:
        if not any(name in of_task for of_task in accepted.values()):
            raise UserError(f"--run {name}: not offered for any task. {reasons[name]}")
    return accepted


def examples(folder: Path) -> list[Path]:
    """Write three photographs of scikit-image to a folder: a gray portrait, a cat and a cup."""
    photos = {
        "portrait": Image.fromarray(data.astronaut()[:256, 96:352]).convert("L"),
        "cat": Image.fromarray(data.chelsea()),
        "cup": Image.fromarray(data.coffee()),
    }
    for name, photo in photos.items():
        photo.save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in photos]


def run(arguments: Sequence[str], show: Callable[[float, str], None]) -> Results:
    """Run a command line of `srcolor-predict`; one photograph after the other.

    Args:
        arguments: Its arguments.
        show: Called with the finished fraction of all photographs, and a line with the time left. It may raise
            `Canceled`.

    Raises:
        UserError: If the command line is invalid, or no photograph succeeds.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            args = options.parse(arguments)
    except SystemExit:
        raise UserError(printed.getvalue().strip().rpartition("error: ")[2]) from None
    start, cpu = time.monotonic(), time.process_time()
    results = Results()
    mode = MODES[args.mode](args)
    for number, job in enumerate(args.jobs):

        def done(part: float, number: int = number, name: str = job.source.name) -> None:
            fraction = (number + part) / len(args.jobs)
            left = (time.monotonic() - start) * (1 - fraction) / fraction if fraction else None
            show(fraction, name if left is None else f"{name}, {left:.0f} s left")

        done(0)
        try:
            remarks = predict.process(job, mode, done)
        except Canceled:
            raise
        except Exception as error:  # the other photographs are processed
            results.lines.append(f"{job.source.name}: {predict.message(error)}")
        else:
            results.lines += [f"{job.source.name}: {remark}" for remark in remarks]
            results.pairs.append((job.source, job.results[0]))
    results.seconds = time.process_time() - cpu
    if not results.pairs:
        raise UserError("; ".join(results.lines))
    return results


def previews(source: Path, result: Path) -> tuple[Image.Image, Image.Image]:
    """Return a photograph and its result, of the same size, reduced for the page."""
    after = image_files.read(result, float("inf")).image.thumbnail_image(PREVIEW, height=PREVIEW, size="down")
    before = image_files.read(source, float("inf")).image
    before = before.thumbnail_image(after.width, height=after.height, size="force")
    first, second = (Image.fromarray(image.colourspace("srgb").numpy()) for image in (before, after))
    return first, second
