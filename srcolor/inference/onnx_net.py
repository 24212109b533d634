"""ONNX models in place of networks in PyTorch."""

from pathlib import Path

import torch
from torch import Tensor

from srcolor.inference.onnx_engine import DECLARED, OnnxEngine
from srcolor.nets import Net


class OnnxNet(Net):
    """An ONNX model that `srcolor-export` wrote, see `OnnxEngine`.

    Args:
        file: The model file.

    Raises:
        UserError: See `OnnxEngine`.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.engine = OnnxEngine(file)
        for key in DECLARED:
            setattr(self, key, getattr(self.engine, key))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to (N, D, scale * H, scale * W).

        Raises:
            MemoryError: If there is not enough memory.
        """
        return torch.from_numpy(self.engine.run(x.float().contiguous().numpy()))
