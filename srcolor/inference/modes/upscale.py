"""Mode `upscale`: enlarge images."""

import argparse
from typing import Any

from numpy.typing import NDArray

from srcolor.errors import UserError
from srcolor.inference import image_files, tiles
from srcolor.inference.modes import base

KIND = base.Kind("a super-resolution network for RGB", enlarges=True)
DEFAULTS = {2: "srcolor/sr_x2_small", 4: "srcolor/sr_x4"}  # by factor


class Upscale(base.Mode):
    """Enlarge an image; a gray one stays gray."""

    name = "upscale"
    help = "enlarge"
    kind = KIND
    default = DEFAULTS[2]
    options = base.FILE_OPTIONS | {"compare", "ensemble", "scale", "sharpness"}

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.stages.append(self._enlarge(enlarger(args, args.run)))

    def outputs(self, source: image_files.Picture, result: NDArray[Any]) -> list[base.Output]:
        """See `Mode`."""
        enlarged, *comparison = super().outputs(source, result)
        return [base.Output(enlarged.image, source, source.gray), *comparison]


def enlarger(args: argparse.Namespace, run: str | None) -> tiles.Engine:
    """Load the network for `--scale`.

    Args:
        args: The options.
        run: Name of the network; if None, the bundled one of the smallest factor that is sufficient.

    Raises:
        UserError: If its factor is smaller than `--scale`, or as `base.engine`.
    """
    scale = args.scale or min(DEFAULTS)
    sufficient = next((name for factor, name in DEFAULTS.items() if factor >= scale), None)
    if sufficient is None and run is None:
        raise UserError(f"--scale {scale:g}: expected at most {max(DEFAULTS)}. Enlarge the result once more")
    engine = base.engine(run or str(sufficient), KIND, args.sharpness, args.ensemble)
    if args.scale is not None and scale > engine.scale:
        fix = f"Use {sufficient}" if sufficient else "Enlarge the result once more"
        raise UserError(f"--scale {scale:g}: {run} enlarges {engine.scale} times at most. {fix}")
    return engine
