"""Mode `restore`: color gray images, then enlarge them."""

import argparse

from srcolor.inference.modes import base
from srcolor.inference.modes.colorize import Color
from srcolor.inference.modes.upscale import Upscale


class Restore(Color):
    """Colorize an image, and enlarge the result with the network `--sr-run`."""

    name = "restore"
    help = "colorize, then enlarge"
    options = Color.options | {"sr_run"}

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args, None)
        self.stages.append(self._enlarge(base.load(args.sr_run or Upscale.default, Upscale.kind, args.sharpness)))
