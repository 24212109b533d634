"""ONNX models that srcolor exported, run by onnxruntime on the CPU. Imports no torch."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil
from numpy.typing import NDArray

from srcolor.errors import UserError

DECLARED = ("inputs", "outputs", "logits", "scale", "stride", "receptive_field")  # see `nets.Net`
LARGEST = 512  # side of tiles; 256 is as fast, but its padding costs more


class OnnxEngine:
    """An ONNX model that `srcolor-export` wrote; it declares the properties of a `Net`, see `DECLARED`.

    Args:
        file: The model file.

    Raises:
        UserError: If it cannot be read, or was not exported by srcolor.
    """

    inputs: int
    outputs: int
    logits: bool
    scale: int
    stride: int
    receptive_field: int | None
    widest: int
    largest = LARGEST

    def __init__(self, file: Path) -> None:
        self.name = file.name
        if not file.exists():
            raise UserError(f"{file}: no such file.")
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 4  # errors are also raised
            # As many threads as processors that the process may use; waiting threads sleep.
            options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has exception types of its own
            raise UserError(f"{file}: cannot be read as ONNX ({str(error).splitlines()[0]}).") from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if "srcolor" not in metadata:
            raise UserError(f"{file}: not exported by srcolor (its metadata lacks the scale and colors).")
        declared = json.loads(metadata["srcolor"])
        for key in DECLARED:
            setattr(self, key, declared[key])
        self.widest = declared.get("widest", 64)  # older files do not declare it

    def free_memory(self) -> int:
        """Return the free memory in bytes."""
        return int(psutil.virtual_memory().available)

    def run(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (N, C, H, W) to (N, D, scale * H, scale * W).

        Raises:
            MemoryError: If there is not enough memory.
        """
        (name,) = (value.name for value in self._session.get_inputs())
        try:
            output: NDArray[np.float32] = self._session.run(None, {name: images})[0]
            return output
        except Exception as error:  # onnxruntime has exception types of its own
            # The first message is onnxruntime's, the second the C++ library's.
            if "Failed to allocate memory" in str(error) or "std::bad_alloc" in str(error):
                raise MemoryError(f"onnxruntime: {type(error).__name__}") from error
            raise

    def enlarge(self, part: NDArray[Any]) -> NDArray[Any]:
        """See `tiles.Engine`."""
        largest = np.iinfo(part.dtype).max
        output = self.run(part.transpose(2, 0, 1).astype(np.float32, order="C")[None] / np.float32(largest))[0]
        output *= largest
        np.clip(output, 0, largest, out=output)
        return np.rint(output, out=output).transpose(1, 2, 0).astype(part.dtype)
