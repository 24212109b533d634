"""The loss of segmentation: against PyTorch and hand values, soft targets, ignored pixels."""

import pytest
import torch
from torch.nn import functional as F

from srcolor.errors import UserError
from srcolor.losses_segment import CrossEntropyDice


def random_pair(classes=3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 8, 8, generator=generator)
    areas = torch.rand(2, classes, 8, 8, generator=generator)
    return logits, areas / areas.sum(1, keepdim=True)


def test_without_dice_it_is_the_cross_entropy_of_soft_targets():
    logits, areas = random_pair()
    torch.testing.assert_close(CrossEntropyDice(dice=0)(logits, areas), F.cross_entropy(logits, areas))


def test_weights_are_those_of_pytorch_for_hard_targets():
    logits, areas = random_pair()
    numbers = areas.argmax(1)
    hard = F.one_hot(numbers, 3).permute(0, 3, 1, 2).float()
    expected = F.cross_entropy(logits, numbers, torch.tensor([0.2, 1.0, 3.0]))
    torch.testing.assert_close(CrossEntropyDice(0, [0.2, 1, 3])(logits, hard), expected)


def test_the_dice_part_of_hard_predictions_is_that_of_their_areas():
    """Class 1: 4 predicted pixels, 6 true, 3 in common; a pixel is added to both."""
    predicted, true = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    predicted[0, 0, 0] = 1
    true[0, 0, 0, 1:] = true[0, 0, 1, :3] = 1
    logits = 1e3 * torch.cat([1 - predicted, predicted], 1)
    target = torch.cat([1 - true, true], 1)
    both = CrossEntropyDice(dice=1)(logits, target) - CrossEntropyDice(dice=0)(logits, target)
    assert both.item() == pytest.approx(1 - (2 * 3 + 1) / (4 + 6 + 1), rel=1e-3)


def test_the_optimum_has_the_probabilities_of_the_areas():
    """With sums instead of squares, Dice would push fractions to 0 or 1."""
    _, areas = random_pair(classes=2)
    best = areas.log().requires_grad_()
    loss = CrossEntropyDice()(best, areas)
    (gradient,) = torch.autograd.grad(loss, best)
    assert gradient.abs().max() < 1e-6
    assert loss < CrossEntropyDice()(2 * areas.log(), areas)


def test_ignored_pixels_do_not_count():
    logits, areas = random_pair()
    areas[:, :, :3] = 0
    loss = CrossEntropyDice(weights=[1, 2, 3])
    changed = logits.clone()
    changed[:, :, :3] = torch.randn(2, 3, 3, 8)
    torch.testing.assert_close(loss(changed, areas), loss(logits, areas))
    torch.testing.assert_close(loss(logits[:, :, 3:], areas[:, :, 3:]), loss(logits, areas))


def test_a_batch_without_counted_pixels_has_no_loss_and_no_gradient():
    logits = torch.randn(1, 2, 4, 4, requires_grad=True)
    loss = CrossEntropyDice()(logits, torch.zeros(1, 2, 4, 4))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"weights": [0, 0]},
            r"loss\.weights=\[0, 0\]: expected a list with a number of at least 0 per class, not all 0",
        ),
        ({"weights": [1, -1]}, r"loss\.weights=\[1, -1\]"),
        ({"weights": []}, r"loss\.weights=\[\]"),
        ({"weights": 5}, r"loss\.weights=5: expected a list with a number"),
        ({"weights": "12"}, r"loss\.weights=12: expected a list"),
        ({"weights": ["a", 1]}, r"loss\.weights=\['a', 1\]: expected a list"),
        ({"weights": [1, float("nan")]}, r"loss\.weights=\[1, nan\]"),
        ({"dice": -1}, r"loss\.dice=-1"),
    ],
)
def test_wrong_weights_are_errors(options, message):
    with pytest.raises(UserError, match=message):
        CrossEntropyDice(**options)


def test_a_weight_per_class_is_required():
    with pytest.raises(UserError, match=r"loss\.weights=\[1\.0, 2\.0\]: expected 3 numbers, one for each class"):
        CrossEntropyDice(weights=[1, 2])(*random_pair())
