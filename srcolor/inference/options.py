"""The command line of `srcolor-predict`."""

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from srcolor import __version__
from srcolor.errors import UserError
from srcolor.inference import choices, image_files, jobs
from srcolor.inference.modes import MODES


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse and check the command line, and complete the options.

    Added are `jobs`; `render_sizes`, empty for the network's own; and `repeated`, see `_repeated`.

    Args:
        arguments: The arguments; if None, the arguments of the process.
    """
    parser = argparse.ArgumentParser(
        prog="srcolor-predict", description="Enlarge, colorize, restore or segment images."
    )
    add = parser.add_argument
    add("inputs", nargs="*", help="image files, folders, or patterns such as '*.tif'")
    modes = "; ".join(f"{name}: {mode.help}" for name, mode in MODES.items())
    add("-m", "--mode", choices=MODES, default="upscale", help=f"{modes} (default: %(default)s)")
    add("-o", "--output", type=Path, help="folder for the results (default: the folder of each image)")
    add(
        "--run",
        help="network: a run folder, a file, latest, srcolor/<name>, hf:<owner>/<name>, a .onnx file, spandrel:<file>",
    )
    add("--sr-run", help="super-resolution network for --mode restore")
    add("--clean-run", help="restoration network that cleans each image first, in any mode: spandrel:<file>")
    add("--render-size", help="shorter side at which color is predicted (default: the network's; 64, DDColor 512)")
    add("--saturation", type=float, default=1.0, help="factor on the chroma (default: %(default)s)")
    add("--samples", type=int, metavar="N", help="a numbered sheet of N different colorings")
    add("--pick", type=int, metavar="NUMBER", help="the coloring with this number on the sheet of --samples")
    add("--temperature", type=float, help="how much samples differ from the default coloring, 0 to 3 (default: 0.5)")
    warm, neutral, cool = (f"{name} ({a:g},{b:g})" for name, (a, b) in choices.TINTS.items())
    add(
        "--tint",
        help=f"mean a*,b* of CIELAB: {neutral}, that of the average training portrait; {warm} or {cool}, one standard "
        "deviation toward yellow or blue; or two numbers. --saturation is applied after it",
    )
    add("--reference", type=Path, help="image whose palette is taken: how warm, vivid and varied its colors are")
    add(
        "--sharpness",
        type=float,
        help="from 0, faithful, to 1, adversarial: for --run, or --sr-run with --mode restore",
    )
    add("--shrink", type=int, help="reduce by this factor to segment (default: that of the run's training, else 1)")
    add("--sheet", action="store_true", help="one image with a version for each size of --render-size 48,64,96")
    add("--scale", type=float, help="factor by which the image is enlarged, over 1 and up to 4 (default: 2)")
    add("--ensemble", action="store_true", help="average over flips and rotations: slightly better, 8 times slower")
    add(
        "--repair",
        type=float,
        help="with --mode restore, strength of the removal of noise, scratches and JPEG blocks, 0 to 1 (default: 1 if "
        "the image has visible noise or blocks, else 0)",
    )
    add("--autocontrast", action="store_true", help="with --mode restore, stretch the contrast of faded images")
    add("--format", choices=image_files.FORMATS, help="file format of the results (default: that of each image)")
    add("--quality", type=int, help="quality of JPEG, WebP and AVIF files, 1 to 100 (default: 95; AVIF 80)")
    add("--compare", action="store_true", help="also write before and after side by side")
    add("--overwrite", action="store_true", help="overwrite existing results")
    add("--tile", type=int, help="tile size in pixels (default: from free memory)")
    add("--max-megapixels", type=float, default=250, help="refuse larger images (default: %(default)s)")
    add("--version", action="version", version=__version__)
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)  # argparse drops it between options and inputs
    args = parser.parse_intermixed_args(_join_tint(arguments[:end]))
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
    mode = MODES[args.mode]
    if args.sheet and ("sheet" not in mode.options or args.compare):
        parser.error("--sheet requires --mode colorize, and cannot be combined with --compare")
    if not 0 <= args.saturation < float("inf"):
        parser.error(f"--saturation {args.saturation:g}: expected a number of at least 0")
    args.repeated = _repeated(args)
    _check_colorings(parser, args)
    if args.sharpness is not None and not 0 <= args.sharpness <= 1:
        parser.error(f"--sharpness {args.sharpness:g}: expected a number from 0 to 1")
    if args.scale is not None and not 1 < args.scale < float("inf"):
        parser.error(f"--scale {args.scale:g}: expected a number over 1")
    if args.quality is not None and not 1 <= args.quality <= 100:
        parser.error(f"--quality {args.quality}: expected a number from 1 to 100")
    suffix = None if args.format is None else image_files.FORMATS[args.format]
    if args.quality is not None and suffix is not None and suffix not in image_files.LOSSY:
        parser.error(f"--quality requires a lossy format, jpg, webp or avif, not --format {args.format}")
    if args.tile is not None and args.tile < 1:
        parser.error(f"--tile {args.tile}: expected at least 1")
    if args.shrink is not None and args.shrink < 1:
        parser.error(f"--shrink {args.shrink}: expected at least 1")
    try:
        mode.check(args)
        args.jobs = list(jobs.plan(args.inputs, args.output, mode.endings(args), suffix, overwrite=args.overwrite))
    except UserError as error:
        parser.error(str(error))
    return args


def _join_tint(arguments: Sequence[str]) -> list[str]:
    """Write `--tint VALUE` as `--tint=VALUE` if the value starts with a negative number, which looks like an option.

    >>> _join_tint(["a.jpg", "--tint", "-5,10", "--tint", "warm"])
    ['a.jpg', '--tint=-5,10', '--tint', 'warm']
    """
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--tint" and re.match(r"-[\d.]", argument):
            joined[-1] = f"--tint={argument}"
        else:
            joined.append(argument)
    return joined


def _repeated(args: argparse.Namespace) -> str:
    """Return the options that change a coloring, as typed: `--pick` needs those of `--samples`."""
    names = ("run", "clean_run", "render_size", "temperature", "tint")
    options = {name.replace("_", "-"): getattr(args, name) for name in names}
    options["saturation"] = None if args.saturation == 1 else f"{args.saturation:g}"
    return "".join(f" --{name}={shlex.quote(str(value))}" for name, value in options.items() if value is not None)


def _check_mode(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check that the mode has the options that were passed."""
    names = {name for mode in MODES.values() for name in mode.options}
    for name in sorted(names - MODES[args.mode].options):
        if getattr(args, name) != parser.get_default(name):
            *others, last = (mode.name for mode in MODES.values() if name in mode.options)
            modes = f"{', '.join(others)} or {last}" if others else last
            parser.error(f"--{name.replace('_', '-')} requires --mode {modes}")


def _check_colorings(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check the options that choose among colorings, and parse the tint."""
    alone = "samples" in MODES[args.mode].options and args.pick is None and not args.sheet and not args.compare
    if args.samples is not None and not alone:
        parser.error("--samples requires --mode colorize, and cannot be combined with --pick, --sheet or --compare")
    _check_mode(parser, args)
    for name in ("samples", "pick"):
        number = getattr(args, name)
        if number is not None and not 1 <= number <= choices.MOST:
            parser.error(f"--{name} {number}: expected a number from 1 to {choices.MOST}")
    if args.pick is not None and args.sheet:
        parser.error("--pick cannot be combined with --sheet, which shows the default coloring at several sizes")
    if args.temperature is not None and args.samples is None and args.pick is None:
        parser.error("--temperature requires --samples or --pick")
    if args.temperature is not None:
        from srcolor.nets.unet_codes import TEMPERATURE  # imports torch

        if not 0 <= args.temperature <= TEMPERATURE:
            parser.error(f"--temperature {args.temperature:g}: expected a number from 0 to {TEMPERATURE:g}")
    if args.tint is not None and args.reference is not None:
        parser.error("--tint and --reference both set the mean color: pass one of them")
    if args.reference is not None and (args.samples is not None or args.pick is not None):
        parser.error("--reference replaces the colors that --samples and --pick choose: pass one of them")
    try:
        args.tint = None if args.tint is None else choices.parse_tint(args.tint)
    except ValueError as error:
        parser.error(f"--tint {args.tint}: {error}")
