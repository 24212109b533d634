import pytest
import torch

from srcolor.images import rgb_to_lab
from srcolor.losses import L1, MSE, Charbonnier, HuberAB
from srcolor.training.schedules import constant, warmup_cosine

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
def test_losses_against_hand_values(loss, expected):
    assert loss(PREDICTION, TARGET).item() == pytest.approx(expected)


def test_mse_on_two_ranges_is_the_squared_error_there():
    on_minus_one_to_one = ((PREDICTION * 2 - 1) - (TARGET * 2 - 1)).square().mean()
    torch.testing.assert_close(MSE(value_range=2)(PREDICTION, TARGET), on_minus_one_to_one)


@pytest.mark.parametrize("lightness", [0.0, 0.5])
def test_huber_against_its_definition(lightness):
    prediction, target = torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    error = (rgb_to_lab(prediction) - rgb_to_lab(target)).double().abs()
    huber = torch.where(error <= 10, error**2 / 2, 10 * (error - 5)) / 10
    expected = huber[:, 1:].mean() + lightness * huber[:, :1].mean()
    loss = HuberAB(delta=10, lightness=lightness)
    assert loss(prediction, target).item() == pytest.approx(expected.item(), rel=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert loss(prediction, target).item() == pytest.approx(expected.item(), rel=1e-5)


def test_warmup_cosine_rises_then_anneals_to_nothing_and_stays_there():
    values = [warmup_cosine(i / 100, warmup=0.1) for i in range(102)]
    assert values[0] == 0
    assert values[10] == 1
    assert values[:11] == sorted(values[:11])
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[100] == values[101] == pytest.approx(0, abs=1e-12)
    assert constant(0.7) == 1
