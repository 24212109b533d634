"""Networks that srcolor did not build: ONNX models, and checkpoints that the spandrel library recognises."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from srcolor.errors import UserError, install_extra
from srcolor.nets import Net

SPANDREL = "spandrel:"
AROUND = 32  # pixels that a network of unknown reach is given at every side of a tile


class Onnx(Net):
    """An ONNX model that `srcolor-export` wrote, run by onnxruntime on the CPU.

    Args:
        file: The model.

    Raises:
        UserError: It cannot be read, is none of srcolor's, or onnxruntime is not installed.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError:
            raise UserError(f"{file}: onnxruntime is missing: {install_extra('export')}") from None
        if not file.exists():
            raise UserError(f"{file}: no such file.")
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # what is wrong is raised too
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of onnxruntime's own kinds
            raise UserError(f"{file}: cannot be read as ONNX ({str(error).splitlines()[0]}).") from error
        told = self._session.get_modelmeta().custom_metadata_map
        if "srcolor" not in told:
            raise UserError(f"{file}: none of srcolor's models: its scale and colours are not known.")
        for key, value in json.loads(told["srcolor"]).items():
            if key in ("inputs", "outputs", "scale", "stride", "receptive_field"):
                setattr(self, key, value)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to (N, D, scale * H, scale * W).

        Raises:
            MemoryError: There is not enough.
        """
        (name,) = (value.name for value in self._session.get_inputs())
        try:
            return torch.from_numpy(self._session.run(None, {name: x.float().contiguous().numpy()})[0])
        except Exception as error:  # of onnxruntime's own kinds
            # By an allocation of its own, or of the C++ library below it.
            if "Failed to allocate memory" in str(error) or "std::bad_alloc" in str(error):
                raise MemoryError(f"{type(error).__name__} of onnxruntime") from error
            raise


class Spandrel(Net):
    """A super-resolution network of any kind that spandrel recognises, from a checkpoint file.

    How far such a network sees is not known: tiles get `AROUND` pixels at every side, and its own multiple of sides.

    Args:
        file: The checkpoint.

    Raises:
        UserError: It cannot be read or recognised, does not take RGB, or spandrel is not installed.
    """

    inputs = 3
    outputs = 3
    receptive_field = 2 * AROUND + 1

    def __init__(self, file: Path) -> None:
        super().__init__()
        try:
            import spandrel
        except ImportError:
            raise UserError(f"{SPANDREL}{file}: spandrel is missing: {install_extra('spandrel')}") from None
        if not file.exists():
            raise UserError(f"{SPANDREL}{file}: no such file.")
        try:
            found: Any = spandrel.ModelLoader().load_from_file(file)
        except Exception as error:  # a foreign file can raise anything
            raise UserError(f"{SPANDREL}{file}: not recognised by spandrel ({type(error).__name__}).") from error
        if (found.input_channels, found.output_channels) != (3, 3):
            raise UserError(f"{SPANDREL}{file}: takes {found.input_channels} channels; expected a network of RGB.")
        self.model = found.model.eval()
        self._call = found
        self.scale = found.scale
        self.stride = found.size_requirements.multiple_of or 1

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, 3, H, W) to (N, 3, scale * H, scale * W); spandrel pads to the sides that the network takes."""
        return self._call(x)
