import math

import pytest
import torch
from torch import nn

from srcolor.images import rgb_to_lab
from srcolor.losses import L1, MSE, Charbonnier, HuberAB, gradient_penalty, relativistic

PREDICTION = torch.tensor([[[[0.0, 0.5]]]])
TARGET = torch.tensor([[[[0.3, 0.1]]]])


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (L1(), (0.3 + 0.4) / 2),
        (MSE(), (0.09 + 0.16) / 2),
        (MSE(value_range=2), 4 * (0.09 + 0.16) / 2),
        (Charbonnier(eps=0.4), (0.5 + 0.32**0.5) / 2),
    ],
)
def test_losses_match_hand_computed_values(loss, expected):
    assert loss(PREDICTION, TARGET).item() == pytest.approx(expected)


def test_mse_uses_the_value_range():
    on_minus_one_to_one = ((PREDICTION * 2 - 1) - (TARGET * 2 - 1)).square().mean()
    torch.testing.assert_close(MSE(value_range=2)(PREDICTION, TARGET), on_minus_one_to_one)


@pytest.mark.parametrize("lightness", [0.0, 0.5])
def test_huber_matches_its_definition(lightness):
    prediction, target = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    error = (rgb_to_lab(prediction) - rgb_to_lab(target)).double().abs()
    huber = torch.where(error <= 10, error**2 / 2, 10 * (error - 5)) / 10
    expected = huber[:, 1:].mean() + lightness * huber[:, :1].mean()
    loss = HuberAB(delta=10, lightness=lightness)
    assert loss(prediction, target).item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(prediction, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_huber_loss_of_ab_is_that_of_colors_outside_of_srgb_too():
    """Errors of 4 and 200 in units of delta 10: 16 / 20, and 200 - 5."""
    prediction, target = torch.zeros(1, 2, 1, 1), torch.tensor([4.0, -200.0]).reshape(1, 2, 1, 1)
    assert HuberAB(delta=10).of_ab(prediction, target).item() == pytest.approx((0.8 + 195) / 2)


def test_the_relativistic_loss_is_that_of_pairs():
    real, fake = torch.randn(2, 2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = zip(real.flatten().tolist(), fake.flatten().tolist(), strict=True)
    expected = [math.log(1 + math.exp(f - r)) for r, f in pairs]
    assert relativistic(real, fake).item() == pytest.approx(sum(expected) / len(expected), rel=1e-5)
    assert relativistic(fake, real) - relativistic(real, fake) == pytest.approx((real - fake).mean().item(), rel=1e-4)
    assert relativistic(real, real).item() == pytest.approx(math.log(2))


def test_the_gradient_penalty_is_that_of_the_sum_over_patches_by_finite_differences_in_double_precision():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4, stride=2, padding=1))
    images = torch.rand(3, 2, 6, 6)
    penalty = gradient_penalty(critic, images)
    penalty.backward()
    by_autograd = critic[0].weight.grad.clone()

    double, exact, step = critic.double(), images.double(), 1e-6
    assert double(exact).shape == (3, 1, 3, 3)

    @torch.no_grad()
    def reference():
        norms = torch.zeros(3, dtype=torch.float64)
        for pixel in torch.eye(2 * 6 * 6, dtype=torch.float64).reshape(-1, 2, 6, 6):
            change = double(exact + step * pixel) - double(exact - step * pixel)
            norms += (change.sum((1, 2, 3)) / (2 * step)).square()
        return norms.mean() / 9  # patches of an image

    expected = reference()
    assert penalty.item() == pytest.approx(expected.item(), rel=1e-4)
    with torch.no_grad():  # and its own gradient, as the critic needs it, at one weight
        double[0].weight[1, 0, 1, 1] += 1e-4
        change = reference() - expected
    assert by_autograd[1, 0, 1, 1].item() == pytest.approx(change.item() / 1e-4, rel=1e-2)


def test_the_gradient_penalty_is_float32_under_autocast():
    torch.manual_seed(0)
    critic, images = nn.Conv2d(3, 1, 3), torch.rand(2, 3, 8, 8)
    exact = gradient_penalty(critic, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(gradient_penalty(critic, images), exact)
