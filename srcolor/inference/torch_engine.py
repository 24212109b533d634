"""Networks in PyTorch, applied to parts of an image."""

from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor

from srcolor.nets import Net, widest

LARGEST = 256  # side of tiles; larger ones are not faster, or slower: see `hardware.keep_memory`


class TorchEngine:
    """A network in evaluation mode, on its device; see `tiles.Engine`.

    Args:
        net: A network from RGB to RGB or to logits.
        bfloat16: Whether to process 8-bit images in bfloat16.
    """

    largest = LARGEST

    def __init__(self, net: Net, bfloat16: bool = False) -> None:
        self._net = net
        self._bfloat16 = bfloat16
        self.name = type(net).__name__
        self.scale, self.stride, self.receptive_field = net.scale, net.stride, net.receptive_field
        self.device = next((tensor.device for tensor in net.parameters()), torch.device("cpu"))
        self.widest = widest(net)

    def free_memory(self) -> int:
        """Return the free memory of the device in bytes."""
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0])
        return int(psutil.virtual_memory().available)

    def enlarge(self, part: NDArray[Any]) -> NDArray[Any]:
        """See `tiles.Engine`."""
        return to_pixels(self._run(part, self._bfloat16 and part.dtype == np.uint8), part.dtype)

    def classify(self, part: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the class with the largest logit, in float32 as in evaluation: (h, w, 3) to (h, w)."""
        classes: NDArray[np.uint8] = self._run(part, False)[0].argmax(0).byte().cpu().numpy()
        return classes

    @torch.inference_mode()
    def _run(self, part: NDArray[Any], bfloat16: bool) -> Tensor:
        x = to_tensor(part).to(self.device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16):
            return self._net(x).float()


def to_tensor(part: NDArray[Any]) -> Tensor:
    """Return pixels, (h, w, 3), uint8 or uint16, as a tensor, (1, 3, h, w) in [0, 1]."""
    return torch.from_numpy(part.astype(np.float32).transpose(2, 0, 1).copy())[None] / np.iinfo(part.dtype).max


def to_pixels(x: Tensor, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a tensor, (1, 3, h, w) in [0, 1], as pixels, (h, w, 3), uint8 or uint16."""
    return (x[0].clamp(0, 1) * np.iinfo(dtype).max).round().permute(1, 2, 0).cpu().numpy().astype(dtype)
