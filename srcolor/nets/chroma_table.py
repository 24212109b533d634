"""Color without a network: the baselines of colorization."""

from collections.abc import Iterable

import torch
from torch import Tensor

from srcolor import images
from srcolor.errors import check_range
from srcolor.images import Pair
from srcolor.nets import Net


def floors(scale: int = 1) -> dict[str, "ChromaTable"]:
    """Return the baselines of colorization by name, not fitted yet.

    Args:
        scale: See `ChromaTable`.
    """
    return {
        name: ChromaTable(levels, scale)
        for name, levels in (("gray", 0), ("mean_color", 1), ("mean_ab_given_luma", 256))
    }


class ChromaTable(Net):
    """Lookup table from the gray level of a pixel to the mean a* and b* of the training images, without parameters.

    Args:
        levels: Number of gray levels. 256: the mean a* and b* at each luma; 1: the mean color; 0: gray.
        scale: Integer factor of the bicubic enlargement that follows.
    """

    inputs = 1
    outputs = 3
    stride = 1

    def __init__(self, levels: int, scale: int = 1) -> None:
        super().__init__()
        check_range("levels", levels, 0, 256)
        check_range("scale", scale, 1)
        self.ab: Tensor
        self.levels = levels
        self.scale = scale
        self.receptive_field = 1 if scale == 1 else 5
        self.register_buffer("ab", torch.zeros(max(levels, 1), 2))

    def fit(self, pairs: Iterable[Pair]) -> None:
        """Fit the table to training images.

        Args:
            pairs: Gray inputs and color targets; larger targets are reduced by block means.
        """
        if not self.levels:
            return
        sums, counts = torch.zeros(self.levels, 2, dtype=torch.float64), torch.zeros(self.levels, dtype=torch.float64)
        for pair in pairs:
            color = images.block_mean(pair.target, pair.target.shape[-1] // pair.input.shape[-1])
            ab = images.rgb_to_ab(color).permute(0, 2, 3, 1).reshape(-1, 2).double()
            level = self._level(pair.input).flatten()
            sums.index_add_(0, level, ab)
            counts += torch.bincount(level, minlength=self.levels)
        means = sums / counts.clamp(min=1)[:, None]
        means[counts == 0] = sums.sum(0) / counts.sum()
        self.ab.copy_(means)

    def forward(self, gray: Tensor) -> Tensor:
        """Map (N, 1, H, W) to (N, 3, scale * H, scale * W), both in [0, 1]."""
        color = images.from_ab(gray, self.ab[self._level(gray)[:, 0]].permute(0, 3, 1, 2))
        return color if self.scale == 1 else images.bicubic_up(color, self.scale).clamp(0, 1)

    def _level(self, gray: Tensor) -> Tensor:
        return (gray.clamp(0, 1) * max(self.levels - 1, 0)).round().long()
