"""Metrics of segmentation: overlap of the areas, and agreement of the boundaries.

Predictions and targets are one-hot, (N, classes, H, W); see `one_hot`. Pixels that are zero in every class of the
target are ignored. Each value is the mean over the foreground classes, all but class 0, that occur in the prediction or
the target of the image.
"""

from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt
from torch import Tensor

from srcolor.metrics.base import Measure

BoolArray = NDArray[np.bool_]


def one_hot(x: Tensor) -> Tensor:
    """Return the class with the largest value at each pixel as one-hot, the first of equal ones.

    Args:
        x: Logits, probabilities, or areas, (N, classes, H, W).

    Returns:
        The same shape and type: 1 for the class, 0 for the others; 0 in every class where `x` is 0 in every class, as
        in a target where ignored.

    >>> one_hot(torch.tensor([0.2, 0.5, 0.5]).reshape(1, 3, 1, 1)).flatten()
    tensor([0., 1., 0.])
    """
    result = torch.zeros_like(x).scatter_(1, x.argmax(1, keepdim=True), 1)
    return result * (x != 0).any(1, keepdim=True)


def _foreground(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the masks of the foreground classes, (N, classes - 1, H, W) bool, and the pixels that count, (N, 1, H, W).

    No mask has a pixel that does not count.
    """
    counted = (target > 0).any(1, keepdim=True)
    return (prediction[:, 1:] > 0) & counted, target[:, 1:] > 0, counted


def _mean_over_classes(values: Tensor, first: Tensor, second: Tensor, absent: float) -> Tensor:
    """Return the mean of the values, (N, K), over the classes in either mask; `absent` if there are none, (N,)."""
    occurs = (first | second).flatten(2).any(2)
    means = torch.where(occurs, values, 0.0).sum(1) / occurs.sum(1).clamp(min=1)
    return torch.where(occurs.any(1), means, absent)


class Dice(Measure):
    """Dice coefficient: twice the common area over the sum of both areas; 1 if no class occurs.

    >>> def masks(*numbers): return F.one_hot(torch.tensor(numbers), 2).T.reshape(1, 2, 1, -1)
    >>> Dice()(masks(0, 1, 1), masks(0, 0, 1))
    tensor([0.6667])
    """

    name = "dice"
    heading = "Dice"
    digits = 4
    higher_is_better = True

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        first, second, _ = _foreground(prediction, target)
        common, areas = (first & second).sum((2, 3)), first.sum((2, 3)) + second.sum((2, 3))
        return _mean_over_classes(2.0 * common / areas.clamp(min=1), first, second, absent=1.0)


class IoU(Measure):
    """Intersection over union (Jaccard index); 1 if no class occurs."""

    name = "iou"
    heading = "IoU"
    digits = 4
    higher_is_better = True

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        first, second, _ = _foreground(prediction, target)
        ratio = 1.0 * (first & second).sum((2, 3)) / (first | second).sum((2, 3)).clamp(min=1)
        return _mean_over_classes(ratio, first, second, absent=1.0)


class _BoundaryF1(Measure):
    """F1 score of the boundaries (Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?").

    A boundary is the pixels of a class with a pixel of another class beside them; the border of the image and of
    ignored pixels does not count as a boundary. Precision is the share of the predicted boundary within `tolerance`
    pixels of the true one, recall the reverse. Without any boundary: 1 if the class occurs in both, else 0. If no class
    occurs, the value is 1.
    """

    digits = 4
    higher_is_better = True
    tolerance: int

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`."""
        first, second, counted = _foreground(prediction, target)
        edges, true_edges = _inner_boundary(first, counted), _inner_boundary(second, counted)
        hits = (edges & _dilated(true_edges, self.tolerance)).sum((2, 3))
        true_hits = (true_edges & _dilated(edges, self.tolerance)).sum((2, 3))
        precision, recall = hits / edges.sum((2, 3)).clamp(min=1), true_hits / true_edges.sum((2, 3)).clamp(min=1)
        f1 = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
        in_both = first.flatten(2).any(2) & second.flatten(2).any(2)
        edgeless = ~(edges | true_edges).flatten(2).any(2)
        return _mean_over_classes(torch.where(edgeless & in_both, 1.0, f1), first, second, absent=1.0)


class BoundaryF1At1(_BoundaryF1):
    """F1 score of the boundaries with a tolerance of 1 pixel; see `_BoundaryF1`."""

    name = "boundary_f1_1px"
    heading = "boundary F1, 1 px"
    tolerance = 1


class BoundaryF1At2(_BoundaryF1):
    """F1 score of the boundaries with a tolerance of 2 pixels; see `_BoundaryF1`."""

    name = "boundary_f1_2px"
    heading = "boundary F1, 2 px"
    tolerance = 2


class HD95(Measure):
    """95th percentile of the Hausdorff distance: the larger of both directions, in pixels.

    The distances run from each boundary pixel of one area to the nearest of the other; here the border of the image is
    a boundary too. Infinite if a class occurs in only one of them, 0 if no class occurs; the mean over the images
    excludes infinite values, and `hd95_infinite` counts them.
    """

    name = "hd95"
    heading = "HD95 (px)"
    digits = 2
    higher_is_better = False

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`; computed on the CPU."""
        first, second, _ = _foreground(prediction, target)
        masks = torch.stack([first, second], 2).cpu().numpy()
        values = torch.tensor([[_hd95(*pair) for pair in image] for image in masks], dtype=torch.float32)
        return _mean_over_classes(values.to(target.device), first, second, absent=0.0)


class HD95Infinite(Measure):
    """Share of the images whose HD95 is infinite: a class is predicted where there is none, or missed entirely."""

    name = "hd95_infinite"
    heading = "HD95 infinite"
    digits = 3
    higher_is_better = False

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """See `Measure`; 0 or 1 for each image."""
        first, second, _ = _foreground(prediction, target)
        return (first.flatten(2).any(2) != second.flatten(2).any(2)).any(1).float()


def _inner_boundary(masks: Tensor, counted: Tensor) -> Tensor:
    """Return the pixels of each mask, (N, K, H, W), beside a pixel outside of it that counts, (N, 1, H, W)."""
    outside = F.pad(counted & ~masks, (1, 1, 1, 1))
    beside = outside[..., 2:, 1:-1] | outside[..., :-2, 1:-1] | outside[..., 1:-1, 2:] | outside[..., 1:-1, :-2]
    return masks & beside


def _dilated(masks: Tensor, radius: int) -> Tensor:
    """Return the pixels within a Euclidean distance of a mask, (N, K, H, W)."""
    steps = torch.arange(-radius, radius + 1, device=masks.device)
    disk = steps[:, None] ** 2 + steps**2 <= radius**2
    flat = masks.flatten(0, 1)[:, None].float()
    near = F.conv2d(flat, disk[None, None].float(), padding=radius) > 0.5
    return near.view_as(masks)


def _hd95(first: BoolArray, second: BoolArray) -> float:
    if not first.any() or not second.any():
        return 0.0 if first.any() == second.any() else np.inf
    edges = [mask & ~cast(BoolArray, binary_erosion(mask)) for mask in (first, second)]
    distances = [distance_transform_edt(~edge) for edge in edges]
    return max(float(np.percentile(distances[1 - side][edges[side]], 95)) for side in (0, 1))
