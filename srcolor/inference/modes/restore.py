"""Mode `restore`: repair old photographs, color them, and enlarge them."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srcolor.errors import UserError
from srcolor.inference import condition, image_files, tiles
from srcolor.inference.modes import base
from srcolor.inference.modes.colorize import Color
from srcolor.inference.modes.upscale import enlarger

REPAIR = "srcolor/restore"


class Restore(Color):
    """Repair a worn photograph, stretch its contrast, colorize it, and enlarge the result."""

    name = "restore"
    help = "repair if worn, color, then enlarge"
    options = Color.options | {"autocontrast", "ensemble", "repair", "scale", "sr_run"}

    def __init__(self, args: argparse.Namespace) -> None:
        super().__init__(args, None)
        self.repair = None if args.clean_run is not None or args.repair == 0 else base.engine(REPAIR, base.CLEAN)
        self.stages.append(self._enlarge(enlarger(args, args.sr_run)))

    @classmethod
    def check(cls, args: argparse.Namespace) -> None:
        """See `Mode`."""
        super().check(args)
        if args.repair is not None and not 0 <= args.repair <= 1:
            raise UserError(f"--repair {args.repair:g}: expected a number from 0 to 1")
        if args.repair is not None and args.clean_run is not None:
            raise UserError("--clean-run replaces the network of --repair: pass one of them")

    def remarks(self, source: image_files.Picture) -> list[str]:
        """See `Mode`; also examine the photograph, for `preparation`."""
        source.condition = found = condition.examine(source)
        remarks = []
        if self.args.clean_run is None:
            measured = f"noise {found.noise:.1f}, JPEG blocks {found.blocks:.1f}"
            strength = self._strength(source)
            done = "not repaired" if strength == 0 else f"repaired, --repair {strength:g}"
            remarks.append(f"{measured}: {done}")
        if self.args.autocontrast:
            done = "stretched" if found.is_faded else "not stretched"
            remarks.append(f"contrast from {found.low:.0f} to {found.high:.0f} of 255: {done}")
        return remarks + super().remarks(source)

    def preparation(self, source: image_files.Picture) -> list[base.Stage]:
        """See `Mode`."""
        stages = super().preparation(source)
        strength = self._strength(source)
        if self.repair is not None and strength > 0:
            stages.append(self._enlarge(Partly(self.repair, strength)))
        found = source.condition
        if self.args.autocontrast and found is not None and found.is_faded:

            def stretch(pixels: tiles.Pixels, done: Callable[[float], None]) -> NDArray[Any]:
                return condition.stretch(pixels, found.low, found.high, base.empty(pixels.shape, pixels.dtype))

            stages.append(stretch)
        return stages

    def _strength(self, source: image_files.Picture) -> float:
        """Return the strength of the repair, 0 to 1: by default 1 for a photograph that is visibly worn."""
        if self.args.repair is not None:
            return float(self.args.repair)
        return float(source.condition is not None and source.condition.is_worn)


class Partly:
    """A restoration engine whose result is blended with its input, see `tiles.Engine`.

    Args:
        engine: An engine of scale 1.
        strength: Weight of its result, 0 to 1.
    """

    def __init__(self, engine: tiles.Engine, strength: float) -> None:
        self._engine, self._strength = engine, strength
        self.name, self.scale, self.stride = engine.name, engine.scale, engine.stride
        self.receptive_field, self.widest, self.largest = engine.receptive_field, engine.widest, engine.largest
        self.free_memory = engine.free_memory

    def enlarge(self, part: NDArray[Any]) -> NDArray[Any]:
        """See `tiles.Engine`."""
        restored = self._engine.enlarge(part)
        blended = part + np.float32(self._strength) * (restored.astype(np.float32) - part)
        return np.rint(blended).astype(part.dtype)
