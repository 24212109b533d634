"""The default critic: it judges the detail of 2x2 blocks, given their means."""

from collections.abc import Iterable

import torch
from torch import Tensor

from srcolor.images import Pair
from srcolor.nets.critic import Critic


class HaarCritic(Critic):
    """Judge images by their Haar transform: three detail bands of each channel at half the size, and the block means.

    After WGSR (Korkmaz et al., CVPR 2024, arXiv 2402.19215), whose critic sees the detail of a wavelet transform. It
    costs half as much as a critic on pixels. The block means of a prediction by `Projected` equal its input, so the
    critic is conditioned on the input. The detail is divided by its standard deviation in the training images.

    Args:
        width: See `Critic`.
    """

    reduction = 2

    def __init__(self, width: int = 32) -> None:
        super().__init__(12, width)
        self.std: Tensor
        self.register_buffer("std", torch.ones(9, 1, 1))

    def fit(self, pairs: Iterable[Pair]) -> None:
        """Measure the standard deviation of the detail of targets."""
        squares, count = torch.zeros(9, dtype=torch.float64), 0
        for pair in pairs:
            detail, _ = haar(pair.target.expand(-1, 3, -1, -1))
            squares += detail.double().square().sum((0, 2, 3))
            count += detail[:, 0].numel()
        self.std.copy_((squares / max(count, 1)).sqrt().clamp(min=1e-4).reshape(-1, 1, 1))  # its mean is 0

    def _encode(self, rgb: Tensor) -> Tensor:
        detail, mean = haar(rgb)
        return torch.cat([detail / self.std, mean], 1)


def haar(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the detail of 2x2 blocks in the orthonormal Haar basis, and their means.

    Args:
        images: (N, C, H, W), H and W even.

    Returns:
        The detail across columns, rows and both, (N, 3 * C, H / 2, W / 2), and the means, (N, C, H / 2, W / 2).

    >>> detail, mean = haar(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
    >>> detail.flatten().tolist(), mean.item()
    ([-1.0, 0.0, 0.0], 0.5)
    """
    top_left, top_right = images[..., ::2, ::2], images[..., ::2, 1::2]
    bottom_left, bottom_right = images[..., 1::2, ::2], images[..., 1::2, 1::2]
    left, right, falling = top_left + bottom_left, top_right + bottom_right, top_left + bottom_right
    top, whole = top_left + top_right, left + right
    return torch.cat([left - right, 2 * top - whole, 2 * falling - whole], 1) / 2, whole / 4
