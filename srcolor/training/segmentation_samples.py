"""Grids of sample segmentations."""

import torch
from torch import Tensor
from torch.nn import functional as F

from srcolor import class_colors
from srcolor.images import Pair, luma
from srcolor.metrics import one_hot
from srcolor.training.samples import SampleGrid

FALSE_POSITIVE, FALSE_NEGATIVE, OTHER_CLASS = (1.0, 0.15, 0.10), (0.10, 0.35, 1.0), (1.0, 0.85, 0.0)


class SegmentationSampleGrid(SampleGrid):
    """Grids of segmented images; see `SampleGrid` for the arguments."""

    def columns(self, batch: Pair, predictions: dict[str, Tensor]) -> dict[str, Tensor]:
        """See `SampleGrid`.

        The image; the classes of the prediction and of the target, colored over the image; and the errors, over its
        luma: red where the network predicts a class in the background, blue where it misses one, yellow where it
        confuses two classes. Ignored pixels are black in the last two.
        """
        prediction, target = one_hot(predictions["net"]), one_hot(batch.target)
        image = F.interpolate(batch.input, size=target.shape[-2:], mode="nearest")
        return {
            "image": batch.input,
            "prediction": overlay(image, prediction),
            "truth": overlay_truth(image, target),
            "errors": errors(image, prediction, target) * target.sum(1, keepdim=True),
        }


def overlay(image: Tensor, classes: Tensor) -> Tensor:
    """Return images with the classes in color over them; the background is unchanged.

    Args:
        image: (N, 3, H, W) in [0, 1].
        classes: One-hot, (N, classes, H, W).

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    colors = torch.from_numpy(class_colors.table(classes.shape[1])[1:]) / 255
    return _paint(image, classes[:, 1:], colors)


def overlay_truth(image: Tensor, target: Tensor) -> Tensor:
    """Return `overlay` of a target, with ignored pixels in black.

    Args:
        image: (N, 3, H, W) in [0, 1].
        target: One-hot, (N, classes, H, W); 0 in every class where ignored.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    return overlay(image, target) * target.sum(1, keepdim=True)


def errors(image: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
    """Return the luma of images with the errors in color over it; see `SegmentationSampleGrid.columns`.

    Args:
        image: (N, 3, H, W) in [0, 1].
        prediction: One-hot, (N, classes, H, W).
        target: Same shape as `prediction`; 0 in every class where ignored.

    Returns:
        (N, 3, H, W) in [0, 1].
    """
    wrong = (prediction * target).sum(1, keepdim=True) == 0
    predicted, true = (one[:, 1:].sum(1, keepdim=True) > 0 for one in (prediction, target))
    areas = torch.cat([wrong & predicted & ~true, wrong & ~predicted & true, wrong & predicted & true], 1)
    return _paint(luma(image).expand(-1, 3, -1, -1), areas, torch.tensor([FALSE_POSITIVE, FALSE_NEGATIVE, OTHER_CLASS]))


def _paint(image: Tensor, areas: Tensor, colors: Tensor) -> Tensor:
    """Paint the areas, (N, K, H, W), in their colors, (K, 3), over images."""
    areas = areas.to(image.dtype)
    paint = torch.einsum("nkhw,kc->nchw", areas, colors.to(image))
    return image + class_colors.OPACITY * (paint - areas.sum(1, keepdim=True) * image)
