"""Mode `upscale`: enlarge images."""

import argparse
from typing import Any

from numpy.typing import NDArray

from srcolor.inference import image_files
from srcolor.inference.modes import base


class Upscale(base.Mode):
    """Enlarge an image; a gray one stays gray."""

    name = "upscale"
    help = "enlarge"
    kind = base.Kind("a super-resolution network for RGB", enlarges=True)
    default = "srcolor/sr_x2_small"
    options = frozenset({"compare", "sharpness"})

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args)
        self.stages.append(self._enlarge(base.load(args.run or self.default, self.kind, args.sharpness)))

    def outputs(self, source: image_files.Picture, result: NDArray[Any]) -> list[base.Output]:
        """See `Mode`."""
        enlarged, *comparison = super().outputs(source, result)
        return [base.Output(enlarged.image, source, source.gray), *comparison]
