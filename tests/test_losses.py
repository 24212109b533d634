import pytest
import torch

from srcolor.images import rgb_to_lab
from srcolor.losses import L1, MSE, Charbonnier, HuberAB

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
