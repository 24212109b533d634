"""ONNX models that srcolor exported."""

import json
from pathlib import Path

import torch
from torch import Tensor

from srcolor.errors import UserError, install_extra
from srcolor.nets import Net


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
            if key in ("inputs", "outputs", "logits", "scale", "stride", "receptive_field"):
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
