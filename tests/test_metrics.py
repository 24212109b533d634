import math

import pytest
import torch
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srcolor.metrics import PSNR, SSIM


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
    assert parts.compute() == whole.compute()
