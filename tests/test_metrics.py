import math

import numpy as np
import pytest
import torch
from skimage import data
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from srcolor import metrics
from srcolor.errors import UserError
from srcolor.metrics import PSNR, SSIM
from srcolor.tasks.colorization import ColorizationTask


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


def test_psnr_of_each_image_is_scikit_images_and_the_figure_is_their_mean(images):
    metric = PSNR()
    metric.update(*images)
    expected = each(images, lambda t, n: peak_signal_noise_ratio(t, n, data_range=1.0))
    assert metric.values.tolist() == pytest.approx(expected, rel=1e-5)
    assert metric.compute().item() == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_ssim_is_scikit_images_over_the_valid_region(images):
    metric = SSIM()
    metric.update(*images)

    def reference(truth, noisy):
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        return structural_similarity(truth, noisy, data_range=1.0, channel_axis=2, **options)

    assert metric.values.tolist() == pytest.approx(each(images, reference), abs=2e-5)


def test_ssim_in_float64_is_scikit_images_and_that_of_one_square_window(images):
    noisy, truth = (batch.double() for batch in images)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = each(images, lambda t, n: structural_similarity(t, n, data_range=1.0, channel_axis=2, **options))
    assert metrics.ssim(noisy, truth).tolist() == pytest.approx(expected, abs=1e-7)
    _, square = structural_similarity_index_measure(noisy, truth, sigma=1.5, data_range=1.0, return_full_image=True)
    expected = square[..., 5:-5, 5:-5].mean((1, 2, 3))
    torch.testing.assert_close(metrics.ssim(noisy, truth), expected, rtol=0, atol=1e-10)


def test_ssim_of_images_smaller_than_its_window_is_refused():
    with pytest.raises(UserError, match="SSIM of 20x10 images is not defined: its window is 11x11"):
        SSIM().update(torch.rand(1, 3, 10, 20), torch.rand(1, 3, 10, 20))
    smallest = torch.linspace(0, 1, 363).reshape(1, 3, 11, 11)
    assert metrics.ssim(smallest, smallest).item() == pytest.approx(1)


def test_the_direction_of_a_monitored_metric_is_its_own():
    assert metrics.higher_is_better("val/psnr")
    assert not metrics.higher_is_better("val/ab_rmse")
    with pytest.raises(UserError, match=r"val/colourfulness_ratio: more of it is neither better nor worse.*val/psnr"):
        metrics.higher_is_better("val/colourfulness_ratio")


def test_an_image_reproduced_exactly_is_left_out_of_the_mean(images):
    noisy, truth = images
    metric = PSNR()
    metric.update(torch.cat([truth[:1], noisy[1:]]), truth)
    assert metric.values[0] == math.inf
    assert metric.compute() == metric.values[1]


def test_batches_add_up(images):
    whole, parts = PSNR(), PSNR()
    whole.update(*images)
    for i in range(2):
        parts.update(images[0][i : i + 1], images[1][i : i + 1])
    assert parts.compute().item() == pytest.approx(whole.compute().item(), rel=1e-6)


# -- colour --------------------------------------------------------------------------------------------------------

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
def test_ciede2000_of_the_published_pairs(pair):
    first, second = torch.tensor([pair[:3], pair[3:6]], dtype=torch.float64).reshape(2, 1, 3, 1, 1)
    assert metrics.ciede2000(first, second).item() == pytest.approx(pair[6], abs=6e-5)


def test_ciede2000_is_scikit_images(images):
    expected = each(images, lambda t, n: deltaE_ciede2000(rgb2lab(t), rgb2lab(n)).mean())
    metric = metrics.CIEDE2000()
    metric.update(*images)
    assert metric.values.tolist() == pytest.approx(expected, rel=1e-3)


def test_ab_rmse_is_that_of_scikit_images_lab(images):
    expected = each(images, lambda t, n: np.sqrt(np.square(rgb2lab(t) - rgb2lab(n))[..., 1:].mean()))
    metric = metrics.ABRMSE()
    metric.update(*images)
    assert metric.values.tolist() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (16, 40), (8, 8)])
def test_tint_patches_and_detail_add_up_to_the_ab_error(size):
    torch.manual_seed(0)
    prediction, target = torch.rand(2, 3, 3, *size)
    whole, *parts = (
        kind().per_image(prediction, target) for kind in (metrics.ABRMSE, metrics.Tint, metrics.Patches, metrics.Detail)
    )
    torch.testing.assert_close(sum(part**2 for part in parts), whole**2, rtol=1e-5, atol=0)


def test_each_part_of_the_ab_error_sees_its_own_kind_alone():
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
        found = {
            other: metric().per_lab(wrong, lab).item()
            for other, metric in (("tint", metrics.Tint), ("patches", metrics.Patches), ("detail", metrics.Detail))
        }
        expected = dict.fromkeys(found, 0.0) | {name: 3 / 2**0.5}  # in a*, none in b*
        assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", [metrics.Patches, metrics.Detail])
def test_sides_that_the_grid_does_not_divide_are_an_error(kind):
    with pytest.raises(UserError, match=r"20x16 images: .*grid of 8x8.*choose another size"):
        kind().update(torch.rand(1, 3, 16, 20), torch.rand(1, 3, 16, 20))


def colourfulness(image):
    """Hasler and Süsstrunk's M3, from the text of the paper, in float64."""
    red, green, blue = (255 * image[..., channel] for channel in range(3))
    rg, yb = red - green, 0.5 * (red + green) - blue
    return np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())


def test_colourfulness_has_signed_opponents(images):
    own, true = (each((batch, batch), lambda t, _: colourfulness(t)) for batch in images)
    metric, ratio = metrics.Colourfulness(), metrics.ColourfulnessRatio()
    metric.update(*images)
    ratio.update(*images)
    assert metric.values.tolist() == pytest.approx(own, rel=1e-5)
    assert ratio.values.tolist() == pytest.approx([a / b for a, b in zip(own, true, strict=True)], rel=1e-5)


def test_hue_error_by_hand():
    """Half the pixels right, half turned by 90 degrees with twice the chroma: two thirds of 90."""
    lab = torch.zeros(1, 3, 1, 2)
    lab[0, 1:, 0, 0], lab[0, 1:, 0, 1] = torch.tensor([10.0, 0.0]), torch.tensor([20.0, 0.0])
    turned = lab.clone()
    turned[0, 1:, 0, 1] = torch.tensor([0.0, 5.0])
    assert metrics.HueError().per_lab(turned, lab).item() == pytest.approx(60)
    assert metrics.HueError().per_lab(torch.zeros_like(lab), lab).item() == pytest.approx(90)


EDGES = {"black": (0, 0, 0), "white": (1, 1, 1), "gray": (0.5, 0.5, 0.5), "red": (1, 0, 0), "blue": (0, 0, 1)}


@pytest.mark.parametrize("kind", ColorizationTask.metrics.values(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("first", EDGES)
@pytest.mark.parametrize("second", EDGES)
def test_no_metric_is_nan_on_flat_images(kind, first, second):
    one, two = (torch.tensor(EDGES[name], dtype=torch.float32).reshape(1, 3, 1, 1) for name in (first, second))
    value = kind().per_image(one.expand(1, 3, 16, 16), two.expand(1, 3, 16, 16))
    assert not value.isnan().any()
    if kind is not metrics.ColourfulnessRatio and first != second:
        assert value.isfinite().all()


def test_several_metrics_at_once_are_each_metric_alone(images):
    together = [kind() for kind in ColorizationTask.metrics.values()]
    metrics.update_all(together, *images)
    for metric in together:
        alone = type(metric)()
        alone.update(*images)
        assert torch.equal(metric.values, alone.values)
