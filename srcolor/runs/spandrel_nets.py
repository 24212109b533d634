"""Networks of other projects: checkpoints of any architecture that the spandrel library supports."""

import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from srcolor import images
from srcolor.errors import UserError, install_extra
from srcolor.nets import Net
from srcolor.nets.luma_sr import LumaSR

PREFIX = "spandrel:"
AROUND, AROUND_DISCOURAGED = 32, 64  # padding of a tile in pixels; the second where spandrel discourages tiles
ELONGATION = 4  # maximum of the longer side that a color network sees, in render sizes
REFUSED = {
    "FaceSR": "restores cut-out faces of 512x512, not photographs",
    "Inpainting": "fills holes and needs a mask",
}


class Spandrel(Net):
    """A network of any architecture that spandrel supports, in float32 even under autocast.

    Its receptive field is unknown: tiles are padded by 32 pixels, or by 64 where spandrel discourages tiles.

    Args:
        descriptor: spandrel's descriptor of the loaded network.
    """

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self.model = descriptor.model.eval().requires_grad_(False)
        self._call = descriptor
        self.scale = descriptor.scale
        self.stride = descriptor.size_requirements.multiple_of
        around = AROUND_DISCOURAGED if descriptor.tiling.name == "DISCOURAGED" else AROUND
        self.receptive_field = 2 * around + 1

    def fused(self) -> "Spandrel":
        """Return the network itself: a method `fused` of a module in it is not that of `nets.fused`."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, scale * H, scale * W), both in [0, 1]; spandrel pads to the sizes that fit."""
        with torch.autocast(x.device.type, enabled=False):
            return torch.cat([self._call(image) for image in x.float().split(1)])  # some networks take one image only


class SpandrelSR(Spandrel):
    """A super-resolution network for RGB."""

    inputs = 3
    outputs = 3


class SpandrelClean(Spandrel):
    """A restoration network for RGB, of scale 1: it removes noise, blur, or the artifacts of JPEG."""

    inputs = 3
    outputs = 3


class SpandrelGray(Spandrel):
    """A network from gray to gray, of any scale; `load` applies it to the luma."""

    inputs = 1
    outputs = 1


class SpandrelColor(Spandrel):
    """A colorizer that predicts a* and b*: DDColor.

    It sees a gray image of any size with a shorter side of `render_size`, enlarged or reduced to it: a square of 64
    pixels becomes one of 512. The aspect ratio is kept, up to rounding both sides to multiples of 32. The longer side
    is at most 4 times `render_size`, so the shorter side of an image over 4:1 is less. The a* and b* are resized to the
    image, and the luma of the image is kept. Tiles would get different colors, so the receptive field is unlimited.
    spandrel's own call squashes every image to 256x256, and takes the sRGB curve for a power of 2.2.
    """

    inputs = 1
    outputs = 3
    render_size = 512

    def __init__(self, descriptor: Any) -> None:
        super().__init__(descriptor)
        self.receptive_field = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 3, H, W), both in [0, 1]."""
        return self.render(x, self.render_size)

    def render(self, gray: Tensor, size: int) -> Tensor:
        """See `Net.render`; the network gets one image at a time, as each takes over a gigabyte at a size of 512."""
        height, width = gray.shape[2:]
        factor = min(size / min(height, width), ELONGATION * size / max(height, width))
        sides = [32 * max(1, round(factor * side / 32)) for side in (height, width)]
        with torch.autocast(gray.device.type, enabled=False):
            resized = F.interpolate(gray.float(), sides, mode="bilinear", antialias=True).expand(-1, 3, -1, -1)
            ab = torch.cat([self.model(image) for image in resized.split(1)])
            return images.from_ab(gray.float(), F.interpolate(ab, (height, width), mode="bilinear", antialias=True))


def load(file: Path) -> Net:
    """Load an external network as one of four kinds: super-resolution, restoration, either on the luma, or color.

    Args:
        file: A `.pth`, `.bin` or `.safetensors` file of weights. Python objects in it are never built.

    Returns:
        A `SpandrelSR`, `SpandrelClean` or `SpandrelColor`; for a network from gray to gray, a `LumaSR` of it.

    Raises:
        UserError: If the file cannot be read, spandrel is missing or does not support the architecture, or the network
            is of another kind.
    """
    name = f"{PREFIX}{file}"
    descriptor = _descriptor(file, name)
    architecture, scale = descriptor.architecture.name, descriptor.scale
    channels = (descriptor.input_channels, descriptor.output_channels)
    if descriptor.purpose in REFUSED:
        raise UserError(
            f"{name}: {architecture} {REFUSED[descriptor.purpose]}. Choose a network for super-resolution, color or "
            "restoration."
        )
    if channels == (3, 3):
        return SpandrelSR(descriptor) if scale > 1 else SpandrelClean(descriptor)
    if channels == (1, 1):
        return LumaSR(SpandrelGray(descriptor))
    if channels == (1, 3) and scale == 1 and getattr(descriptor.model, "num_output_channels", None) == 2:
        return SpandrelColor(descriptor)
    raise UserError(
        f"{name}: {architecture} maps {channels[0]} to {channels[1]} channels at scale {scale}; expected RGB to RGB, "
        "gray to gray, or a DDColor that predicts a* and b*."
    )


def _descriptor(file: Path, name: str) -> Any:
    """Return spandrel's descriptor of the network in a file."""
    hint = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # spandrel's networks use torch.jit, which is deprecated
        try:
            import spandrel
        except ImportError:
            raise UserError(f"{name}: spandrel is not installed. Run: {install_extra('foreign')}") from None
        registry = spandrel.MAIN_REGISTRY.copy()
        try:
            import spandrel_extra_arches

            registry.add(*spandrel_extra_arches.EXTRA_REGISTRY, ignore_duplicates=True)
        except ImportError:  # its architectures are under other licenses, so it may be left out
            hint = f" DDColor and others need spandrel_extra_arches. Run: {install_extra('foreign')}"
    if not file.exists():
        raise UserError(f"{name}: no such file.")
    try:
        state = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
        state = spandrel.canonicalize_state_dict(state)
    except Exception as error:  # an external file can raise anything
        raise UserError(
            f"{name}: cannot be read as weights ({type(error).__name__}). Expected a .pth, .bin or .safetensors file "
            "of tensors; other Python objects are refused, because they can run code."
        ) from error
    try:
        with torch.no_grad():  # DDColor runs its encoder, and activations with a graph cannot be copied
            return registry.load(state)
    except Exception as error:  # an external file can raise anything
        raise UserError(
            f"{name}: not supported by spandrel ({type(error).__name__}). Expected weights of an architecture that "
            f"spandrel lists.{hint}"
        ) from error
