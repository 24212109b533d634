"""The modes of `srcolor-predict`, one per file."""

from srcolor.inference.modes.base import Mode
from srcolor.inference.modes.colorize import Colorize
from srcolor.inference.modes.restore import Restore
from srcolor.inference.modes.segment import Segment
from srcolor.inference.modes.upscale import Upscale

MODES: dict[str, type[Mode]] = {mode.name: mode for mode in (Upscale, Colorize, Restore, Segment)}
