import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import nn
from torchmetrics.functional.image import structural_similarity_index_measure

from srcolor import metrics
from srcolor.errors import UserError
from srcolor.images import rgb_to_lab
from srcolor.metrics import MEASURES, PSNR, SSIM


@pytest.fixture(scope="module")
def images():
    """Two photographs, and the same with noise of different strength."""
    truth = torch.stack([torch.from_numpy(photo[:64, :64].copy()) for photo in (data.astronaut(), data.coffee())])
    truth = truth.permute(0, 3, 1, 2).float() / 255
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    return (truth + noise * torch.tensor([0.01, 0.2])[:, None, None, None]).clamp(0, 1), truth


def each(images, reference):
    noisy, truth = (batch.permute(0, 2, 3, 1).double().numpy() for batch in images)
    return [reference(t, n) for n, t in zip(noisy, truth, strict=True)]


def values(name, images):
    """Return the values of one measure as a list."""
    return metrics.measure({name: MEASURES[name]()}, *images)[name].tolist()


def test_psnr_matches_skimage(images):
    expected = each(images, lambda t, n: peak_signal_noise_ratio(t, n, data_range=1.0))
    assert values("psnr", images) == pytest.approx(expected, rel=1e-5)


def test_ssim_matches_skimage_over_the_valid_region(images):
    def reference(truth, noisy):
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        return structural_similarity(truth, noisy, data_range=1.0, channel_axis=2, **options)

    assert values("ssim", images) == pytest.approx(each(images, reference), abs=2e-5)


def test_float64_ssim_matches_skimage_and_square_window(images):
    noisy, truth = (batch.double() for batch in images)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = each(images, lambda t, n: structural_similarity(t, n, data_range=1.0, channel_axis=2, **options))
    assert metrics.ssim(noisy, truth).tolist() == pytest.approx(expected, abs=1e-7)
    _, square = structural_similarity_index_measure(noisy, truth, sigma=1.5, data_range=1.0, return_full_image=True)
    expected = square[..., 5:-5, 5:-5].mean((1, 2, 3))
    torch.testing.assert_close(metrics.ssim(noisy, truth), expected, rtol=0, atol=1e-10)


def test_ssim_of_images_smaller_than_its_window_is_an_error():
    with pytest.raises(UserError, match="SSIM of 20x10 images is not defined: its window is 11x11"):
        SSIM()(torch.rand(1, 3, 10, 20), torch.rand(1, 3, 10, 20))
    smallest = torch.linspace(0, 1, 363).reshape(1, 3, 11, 11)
    assert metrics.ssim(smallest, smallest).item() == pytest.approx(1)


def test_monitor_direction_comes_from_the_measure():
    assert metrics.higher_is_better("val/psnr")
    assert not metrics.higher_is_better("val/ab_rmse")
    with pytest.raises(UserError, match=r"val/colorfulness_ratio: a higher value is neither better nor.*val/psnr"):
        metrics.higher_is_better("val/colorfulness_ratio")


def test_every_measure_declares_how_it_is_shown_and_ranked():
    for name, kind in MEASURES.items():
        assert (kind.name, kind.space in ("rgb", "lab")) == (name, True)
        assert kind.heading
        assert kind.digits >= 0
        assert kind.higher_is_better in (True, False, None)
    assert len({kind.heading for kind in MEASURES.values()}) == len(MEASURES)


def test_exactly_reproduced_image_is_excluded_from_the_mean(images):
    noisy, truth = images
    psnr = PSNR()(torch.cat([truth[:1], noisy[1:]]), truth)
    assert psnr[0] == math.inf
    assert metrics.mean(psnr) == psnr[1]


def test_batches_are_gathered_in_order_and_only_once():
    values = metrics.Values()
    for start in (0, 3):
        part = torch.arange(start, start + 3)
        values.update({"row": part, "psnr": part / 2})
    columns = values.gather()
    assert columns["row"].tolist() == [0, 1, 2, 3, 4, 5]
    assert columns["psnr"].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert values.gather() == {}


def test_images_are_converted_to_cielab_once_for_all_measures(images, monkeypatch):
    converted = []
    monkeypatch.setattr(metrics.base, "rgb_to_lab", lambda batch: converted.append(batch) or rgb_to_lab(batch))
    names = ("psnr", "ab_rmse", "ciede2000", "tint")
    together = metrics.measure({name: MEASURES[name]() for name in names}, *images)
    assert len(converted) == 2
    assert list(together) == list(names)
    assert converted[0] is images[0]
    for name in names:
        assert together[name].tolist() == values(name, images)


class Weighted(PSNR):
    """A measure with a network."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 3, 1))


def test_the_weights_of_a_measure_move_with_it_and_are_in_no_checkpoint():
    measures = nn.ModuleDict({"weighted": Weighted()})
    assert next(measures.to("meta").parameters()).device.type == "meta"
    assert nn.ModuleList([measures]).state_dict() == {}


# -- color ---------------------------------------------------------------------------------------------------------

# The pairs of Sharma, Wu and Dalal, "The CIEDE2000 color-difference formula", 2005, table 1.
SHARMA = [
    (50, 2.6772, -79.7751, 50, 0, -82.7485, 2.0425),
    (50, 3.1571, -77.2803, 50, 0, -82.7485, 2.8615),
    (50, 2.8361, -74.0200, 50, 0, -82.7485, 3.4412),
    (50, -1.3802, -84.2814, 50, 0, -82.7485, 1.0),
    (50, -1.1848, -84.8006, 50, 0, -82.7485, 1.0),
    (50, -0.9009, -85.5211, 50, 0, -82.7485, 1.0),
    (50, 0, 0, 50, -1, 2, 2.3669),
    (50, -1, 2, 50, 0, 0, 2.3669),
    (50, 2.49, -0.001, 50, -2.49, 0.0009, 7.1792),
    (50, 2.49, -0.001, 50, -2.49, 0.001, 7.1792),
    (50, 2.49, -0.001, 50, -2.49, 0.0011, 7.2195),
    (50, 2.49, -0.001, 50, -2.49, 0.0012, 7.2195),
    (50, -0.001, 2.49, 50, 0.0009, -2.49, 4.8045),
    (50, -0.001, 2.49, 50, 0.001, -2.49, 4.8045),
    (50, -0.001, 2.49, 50, 0.0011, -2.49, 4.7461),
    (50, 2.5, 0, 50, 0, -2.5, 4.3065),
    (50, 2.5, 0, 73, 25, -18, 27.1492),
    (50, 2.5, 0, 61, -5, 29, 22.8977),
    (50, 2.5, 0, 56, -27, -3, 31.9030),
    (50, 2.5, 0, 58, 24, 15, 19.4535),
    (50, 2.5, 0, 50, 3.1736, 0.5854, 1.0),
    (50, 2.5, 0, 50, 3.2972, 0, 1.0),
    (50, 2.5, 0, 50, 1.8634, 0.5757, 1.0),
    (50, 2.5, 0, 50, 3.2592, 0.3350, 1.0),
    (60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644),
    (63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630),
    (61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731),
    (35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645),
    (22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373),
    (36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146),
    (90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441),
    (90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381),
    (6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377),
    (2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082),
]


@pytest.mark.parametrize("pair", SHARMA, ids=range(1, 35))
def test_ciede2000_matches_published_pairs(pair):
    first, second = torch.tensor([pair[:3], pair[3:6]], dtype=torch.float64).reshape(2, 1, 3, 1, 1)
    assert metrics.ciede2000(first, second).item() == pytest.approx(pair[6], abs=6e-5)


def test_ciede2000_matches_skimage(images):
    expected = each(images, lambda t, n: deltaE_ciede2000(rgb2lab(t), rgb2lab(n)).mean())
    assert values("ciede2000", images) == pytest.approx(expected, rel=1e-3)


def test_ab_rmse_matches_skimage(images):
    expected = each(images, lambda t, n: np.sqrt(np.square(rgb2lab(t) - rgb2lab(n))[..., 1:].mean()))
    assert values("ab_rmse", images) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (16, 40), (8, 8)])
def test_tint_patches_and_detail_add_up_to_the_ab_error(size):
    torch.manual_seed(0)
    prediction, target = rgb_to_lab(torch.rand(6, 3, *size)).split(3)
    names = ("ab_rmse", "tint", "patches", "detail")
    whole, *parts = (MEASURES[name]()(prediction, target) for name in names)
    torch.testing.assert_close(sum(part**2 for part in parts), whole**2, rtol=1e-5, atol=0)


def test_each_part_of_the_ab_error_measures_only_errors_of_its_kind():
    lab = torch.zeros(1, 3, 16, 16)
    checks = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1  # -1 and 1, mean 0
    kinds = {
        "tint": torch.full((16, 16), 3.0),
        "patches": 3 * checks.repeat_interleave(2, 0).repeat_interleave(2, 1),
        "detail": 3 * checks.repeat(2, 2),
    }
    for name, error in kinds.items():
        wrong = lab.clone()
        wrong[:, 1] = error
        measured = {other: MEASURES[other]()(wrong, lab).item() for other in kinds}
        expected = dict.fromkeys(kinds, 0.0) | {name: 3 / 2**0.5}  # in a*, none in b*
        assert measured == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["patches", "detail"])
def test_sides_that_are_not_multiples_of_the_grid_are_an_error(name):
    with pytest.raises(UserError, match=r"20x16 images: .*grid of 8x8.*use a different size"):
        MEASURES[name]()(torch.rand(1, 3, 16, 20), torch.rand(1, 3, 16, 20))


def colorfulness(image):
    """Hasler and Süsstrunk's M3, from the text of the paper, in float64."""
    red, green, blue = (255 * image[..., channel] for channel in range(3))
    rg, yb = red - green, 0.5 * (red + green) - blue
    return np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())


def test_colorfulness_has_signed_opponents(images):
    predicted, true = (each((batch, batch), lambda t, _: colorfulness(t)) for batch in images)
    assert values("colorfulness", images) == pytest.approx(predicted, rel=1e-5)
    expected = [one / other for one, other in zip(predicted, true, strict=True)]
    assert values("colorfulness_ratio", images) == pytest.approx(expected, rel=1e-5)


def test_hue_error_of_hand_computed_values():
    """Half the pixels right, half turned by 90 degrees with twice the chroma: two thirds of 90."""
    lab = torch.zeros(1, 3, 1, 2)
    lab[0, 1:, 0, 0], lab[0, 1:, 0, 1] = torch.tensor([10.0, 0.0]), torch.tensor([20.0, 0.0])
    turned = lab.clone()
    turned[0, 1:, 0, 1] = torch.tensor([0.0, 5.0])
    assert metrics.HueError()(turned, lab).item() == pytest.approx(60)
    assert metrics.HueError()(torch.zeros_like(lab), lab).item() == pytest.approx(90)


def test_spread_is_the_difference_between_two_colorings():
    """Two samples, 6 apart in a* and 8 in b*: an RMS of sqrt((36 + 64) / 2); equal ones have none."""
    lab = torch.zeros(2, 2, 3, 4, 4)
    lab[0, 1, 1], lab[0, 1, 2] = 6.0, 8.0
    lab[:, :, 0] = torch.rand(2, 2, 4, 4)  # the lightness has no influence
    assert metrics.MEASURES["spread"]()(lab, lab).tolist() == pytest.approx([math.sqrt(50), 0])
    many = 10 * torch.randn(1, 8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    pairs = [(many[0, i] - many[0, j])[1:].square().mean().item() for i in range(8) for j in range(i)]
    expected = math.sqrt(sum(pairs) / len(pairs))
    assert metrics.MEASURES["spread"]()(many, many).item() == pytest.approx(expected, rel=1e-5)


OF_CLASSES = ("dice", "iou", "boundary_f1_1px", "boundary_f1_2px", "hd95", "hd95_infinite")  # of one-hot images
EDGES = {"black": (0, 0, 0), "white": (1, 1, 1), "gray": (0.5, 0.5, 0.5), "red": (1, 0, 0), "blue": (0, 0, 1)}


@pytest.mark.parametrize(
    "name", [name for name in MEASURES if not name.endswith("_y") and name not in ("lpips", "spread", *OF_CLASSES)]
)
@pytest.mark.parametrize("first", EDGES)
@pytest.mark.parametrize("second", EDGES)
def test_no_measure_is_nan_on_flat_images(name, first, second):
    pair = (torch.tensor(EDGES[edge]).float().reshape(1, 3, 1, 1).expand(1, 3, 16, 16) for edge in (first, second))
    value = MEASURES[name].summarize(torch.tensor(values(name, pair))).item()
    assert not math.isnan(value)
    if name != "colorfulness_ratio" and first != second:
        assert math.isfinite(value)
