"""The loss of segmentation, between logits and the areas of the classes, both (N, classes, H, W)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from srcolor.errors import UserError, check_range


class CrossEntropyDice(nn.Module):
    """Cross entropy plus one minus the soft Dice coefficient.

    Both count a pixel by the sum of its areas, so ignored pixels, whose areas are 0, do not count. The cross entropy is
    the mean over pixels. Dice is that of Milletari et al. 2016 (V-Net), with squares in the denominator: only these
    have their optimum where the probabilities equal the areas. It is computed over the whole batch, and averaged over
    the classes except the background, class 0.

    Args:
        dice: Weight of the Dice part.
        weights: Weight of each class in the cross entropy; if None, 1 for all.

    Raises:
        UserError: If `dice` is negative, or `weights` is not a list of numbers of at least 0, not all 0.

    >>> areas = torch.tensor([0.0, 1.0]).reshape(1, 2, 1, 1)
    >>> CrossEntropyDice(dice=0)(torch.zeros(1, 2, 1, 1), areas)  # log 2
    tensor(0.6931)
    """

    def __init__(self, dice: float = 1.0, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        check_range("loss.dice", dice, 0)
        self.dice = dice
        if weights is not None and not _are_weights(weights):
            raise UserError(
                f"loss.weights={weights}: expected a list with a number of at least 0 per class, not all 0. Set for "
                "example loss.weights=[1,2]."
            )
        self.weights: Tensor | None
        self.register_buffer("weights", None if weights is None else torch.tensor(list(weights)).float(), False)

    def check_classes(self, classes: int) -> None:
        """Check that the number of weights, if any, equals the number of classes.

        Raises:
            UserError: If it does not.
        """
        if self.weights is not None and len(self.weights) != classes:
            raise UserError(
                f"loss.weights={self.weights.tolist()}: expected {classes} numbers, one for each class. Add the "
                "missing ones, or remove the others."
            )

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar; 0 if all pixels are ignored.

        Raises:
            UserError: If the number of weights differs from the number of classes.
        """
        self.check_classes(target.shape[1])
        weighted = target if self.weights is None else target * self.weights[:, None, None]
        log_probabilities = prediction.log_softmax(1)
        entropy = -(weighted * log_probabilities).sum() / weighted.sum().clamp(min=1e-6)
        counted = target.sum(1, keepdim=True)
        probabilities = (log_probabilities.exp() * counted)[:, 1:]
        areas = target[:, 1:]
        common = (probabilities * areas).sum((0, 2, 3))
        squares = probabilities.square().sum((0, 2, 3)) + areas.square().sum((0, 2, 3))
        dice = (2 * common + 1) / (squares + 1)  # add 1 so that an absent class does not divide by 0
        return entropy + self.dice * (1 - dice.mean())


def _are_weights(weights: object) -> bool:
    if not isinstance(weights, Sequence) or not all(isinstance(weight, int | float) for weight in weights):
        return False
    return any(weights) and all(0 <= weight < math.inf for weight in weights)
