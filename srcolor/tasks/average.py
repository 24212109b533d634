"""The exponential moving average of a network's weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class Average(AveragedModel):
    """`AveragedModel` with a warm-up, which does not read its counter `n_averaged` back from the device.

    Args:
        net: The network to average, of which `module` is a copy.
        decay: Decay, in [0, 1], reached after a warm-up (1 + n) / (10 + n).

    Attributes:
        count: Updates so far.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        super().__init__(net, use_buffers=True)
        self.requires_grad_(False)
        self.decay = decay
        self.count = 0
        self._pairs: list[tuple[Tensor, Tensor]] | None = None  # of the average and of the network

    def read_count(self) -> None:
        """Continue at the counter, which was loaded from a checkpoint."""
        self.count = int(self.n_averaged)

    def restart(self, state: dict[str, Any]) -> None:
        """Start again from the weights of a network."""
        self.module.load_state_dict(state)
        self.n_averaged.zero_()
        self.count = 0

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Include the current weights of the network, the same at each call."""
        if self._pairs is None:  # listed once, as that takes longer than an update
            tensors = ([*one.parameters(), *one.buffers()] for one in (self.module, net))
            self._pairs = list(zip(*tensors, strict=True))
        decay = min(self.decay, (1 + self.count) / (10 + self.count)) if self.count else 0.0
        floating = [pair for pair in self._pairs if pair[0].is_floating_point()]
        if floating:
            get_ema_multi_avg_fn(decay)(*map(list, zip(*floating, strict=True)), self.count)
        for mean, new in self._pairs:
            if not mean.is_floating_point():  # BatchNorm's number of batches
                mean.copy_(new)
        self.n_averaged += 1
        self.count += 1
