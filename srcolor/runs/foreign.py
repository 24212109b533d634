"""External networks: ONNX models, and checkpoints of architectures that the spandrel library supports."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srcolor.errors import UserError, install_extra
from srcolor.nets import Net

SPANDREL = "spandrel:"
AROUND = 32  # padding of a tile in pixels for a network whose receptive field is unknown


class Onnx(Net):
    """An ONNX model that `srcolor-export` wrote, run by onnxruntime on the CPU.

    Args:
        file: The model file.

    Raises:
        UserError: If it cannot be read, was not exported by srcolor, or onnxruntime is not installed.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{file}: onnxruntime is not installed. Run: {install_extra('export')}") from None
        if not file.exists():
            raise UserError(f"{file}: no such file.")
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # errors are also raised
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has exception types of its own
            raise UserError(f"{file}: cannot be read as ONNX ({str(error).splitlines()[0]}).") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if "srcolor" not in metadata:
            raise UserError(f"{file}: not exported by srcolor (its metadata lacks the scale and colors).")
        for key, value in json.loads(metadata["srcolor"]).items():
            if key in ("inputs", "outputs", "scale", "stride", "receptive_field"):
                setattr(self, key, value)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, scale * H, scale * W).

        Raises:
            MemoryError: If there is not enough memory.
        """
        (name,) = (value.name for value in self._session.get_inputs())
        try:
            return torch.from_numpy(self._session.run(None, {name: x.float().contiguous().numpy()})[0])
        except Exception as error:  # onnxruntime has exception types of its own
            # The first message is onnxruntime's, the second the C++ library's.
            if "Failed to allocate memory" in str(error) or "std::bad_alloc" in str(error):
                raise MemoryError(f"onnxruntime: {type(error).__name__}") from error
            raise


class Spandrel(Net):
    """A super-resolution network of any architecture that spandrel supports, from a checkpoint file.

    Its receptive field is unknown: tiles are padded by `AROUND` pixels.

    Args:
        file: The checkpoint file.

    Raises:
        UserError: If it cannot be read, its architecture is unsupported or not RGB to RGB, or spandrel is missing.
    """

    inputs = 3
    outputs = 3
    receptive_field = 2 * AROUND + 1

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            import spandrel
        except ImportError:
            raise UserError(f"{SPANDREL}{file}: spandrel is not installed. Run: {install_extra('spandrel')}") from None
        if not file.exists():
            raise UserError(f"{SPANDREL}{file}: no such file.")
        try:
            descriptor: Any = spandrel.ModelLoader().load_from_file(file)
        except Exception as error:  # an external file can raise anything
            raise UserError(f"{SPANDREL}{file}: not supported by spandrel ({type(error).__name__}).") from error
        channels = (descriptor.input_channels, descriptor.output_channels)
        if channels != (3, 3):
            raise UserError(f"{SPANDREL}{file}: maps {channels[0]} to {channels[1]} channels; expected RGB to RGB.")
        self.model = descriptor.model.eval()
        self._call = descriptor
        self.scale = descriptor.scale
        self.stride = descriptor.size_requirements.multiple_of or 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, 3, H, W) to (N, 3, scale * H, scale * W); spandrel pads to the sizes that the network accepts."""
        return self._call(x)
