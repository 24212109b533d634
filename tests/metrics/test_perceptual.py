import logging
import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.signal.windows import hann
from scipy.stats import spearmanr
from skimage import data
from skimage.metrics import peak_signal_noise_ratio
from skimage.transform import downscale_local_mean

from srcolor import images, losses, metrics
from srcolor.errors import UserError
from srcolor.metrics import MEASURES, perceptual
from srcolor.nets.residual import Residual
from srcolor.tasks.colorization import ColorizationTask
from srcolor.tasks.super_resolution import SuperResolutionTask
from srcolor.training import schedules

BACKBONE = perceptual.backbone()  # before a fixture hides the caches of the user
needs_backbone = pytest.mark.skipif(not BACKBONE.is_file(), reason=f"no {BACKBONE}")
CROPS = {
    "astronaut": [(0, 160), (150, 100), (300, 200), (350, 350)],
    "coffee": [(50, 100), (200, 300), (250, 150)],
    "chelsea": [(50, 120), (100, 250), (150, 60)],
    "rocket": [(150, 250), (290, 300)],
}


@pytest.fixture(scope="module")
def truth():
    """Twelve crops of 128x128 of four photographs."""
    crops = [
        getattr(data, name)()[top : top + 128, left : left + 128]
        for name, corners in CROPS.items()
        for top, left in corners
    ]
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255


def blur(batch, sigma):
    weights = torch.exp(-((torch.arange(9) - 4.0) ** 2) / (2 * sigma**2))
    kernel = torch.outer(weights, weights)
    kernel = (kernel / kernel.sum()).expand(3, 1, 9, 9)
    padded = torch.nn.functional.pad(batch, (4, 4, 4, 4), mode="reflect")
    return torch.nn.functional.conv2d(padded, kernel, groups=3)


def project(batch, truth):
    """Return the nearest images with the block means of the truth."""
    error = images.block_mean(truth, 2) - images.block_mean(batch, 2)
    return batch + error.repeat_interleave(2, 2).repeat_interleave(2, 3)


@pytest.fixture(scope="module")
def variants(truth):
    """Predictions that agree with the input, and bicubic interpolation, which does not; the best by LPIPS first."""
    bicubic = images.bicubic_up(images.block_mean(truth, 2), 2)
    smooth = project(bicubic, truth)
    missing = truth - smooth
    blurred = project(blur(truth, 1.0), truth)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0)) * missing.std((1, 2, 3), keepdim=True)
    named = {
        "detail, 2 pixels off": smooth + missing.roll((2, 2), (2, 3)),
        "blurred truth, unsharp mask": blurred + 0.5 * (blurred - blur(blurred, 1.0)),
        "blurred truth": blurred,
        "bicubic and half the noise": smooth + noise / 2,
        "bicubic": None,
        "bicubic and noise as strong as the detail": smooth + noise,
        "detail of another image": smooth + missing.roll(1, 0),
    }
    consistent = {name: None if one is None else project(one, truth).clamp(0, 1) for name, one in named.items()}
    return consistent | {"bicubic": bicubic.clamp(0, 1)}


def summary(name, prediction, target):
    kind = MEASURES[name]
    with torch.no_grad():
        values = metrics.measure({name: kind()}, prediction, target)[name]
    return kind.summarize(values).item()


# -- against independent references ------------------------------------------------------------------------------------


def gray(image):
    return image.double().numpy().transpose(1, 2, 0) @ [0.299, 0.587, 0.114]


def texture_reference(prediction, target):
    def windows(luma):
        gradient = np.array(
            [
                [math.hypot(luma[y, x + 1] - luma[y, x], luma[y + 1, x] - luma[y, x]) for x in range(luma.shape[1] - 1)]
                for y in range(luma.shape[0] - 1)
            ]
        )
        rows, columns = (range(0, side - 7, 4) for side in gradient.shape)
        return np.array([gradient[y : y + 8, x : x + 8].mean() for y in rows for x in columns])

    one, other = windows(prediction), windows(target)
    return np.abs(one - other).mean() / other.mean()


def band_reference(prediction, target, counts):
    """By sums over complex exponentials, without a fast Fourier transform."""

    def energy(luma):
        luma = (luma - luma.mean()) * np.outer(*(hann(side, sym=False) for side in luma.shape))
        left, right = (
            np.exp(-2j * np.pi * np.outer(range(-(side // 2), side - side // 2), range(side)) / side)
            for side in luma.shape
        )
        power = np.abs(left @ luma @ right.T) ** 2
        return sum(
            power[i, j]
            for i in range(luma.shape[0])
            for j in range(luma.shape[1])
            if counts(*(abs(k - side // 2) / side for k, side in zip((i, j), luma.shape, strict=True)))
        )

    return 10 * math.log10(energy(prediction) / energy(target))


REFERENCES = {
    "texture": texture_reference,
    "band_energy": partial(band_reference, counts=lambda y, x: 0.26 <= math.hypot(y, x) <= 0.5),
    "checkerboard": partial(band_reference, counts=lambda y, x: math.hypot(0.5 - y, 0.5 - x) <= 1 / 16),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_each_image_has_the_value_of_a_slow_reference(name, truth):
    target = truth[:3, :, :48, :41]  # an odd side too
    prediction = (blur(target, 0.7) + 0.02 * torch.rand(target.shape)).clamp(0, 1)
    expected = [REFERENCES[name](gray(one), gray(other)) for one, other in zip(prediction, target, strict=True)]
    assert MEASURES[name]()(prediction, target).tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_consistency_is_the_psnr_of_scikit_images_block_means(truth):
    prediction = blur(truth[:3], 1.0)
    pairs = zip(*(batch.permute(0, 2, 3, 1).double().numpy() for batch in (prediction, truth[:3])), strict=True)
    small = [[downscale_local_mean(image, (2, 2, 1)) for image in pair] for pair in pairs]
    expected = [peak_signal_noise_ratio(target, one, data_range=1.0) for one, target in small]
    assert metrics.MEASURES["consistency"]()(prediction, truth[:3]).tolist() == pytest.approx(expected, rel=1e-5)


# -- values by hand, and invariants ------------------------------------------------------------------------------------


def wave(frequency, amplitude, side=64):
    """A gray cosine along the rows, of so many cycles per pixel."""
    row = 0.5 + amplitude * torch.cos(2 * torch.pi * frequency * torch.arange(side))
    return row.expand(1, 3, side, side)


def test_band_energy_counts_only_high_frequencies():
    measure = MEASURES["band_energy"]()
    assert measure(wave(0.375, 0.1), wave(0.375, 0.2)).item() == pytest.approx(-20 * math.log10(2), abs=1e-3)
    both = [wave(0.375, 0.1) + wave(0.125, amplitude) - 0.5 for amplitude in (0.05, 0.3)]
    assert measure(*both).item() == pytest.approx(0, abs=1e-3)


def test_checkerboard_counts_only_its_pattern():
    measure = MEASURES["checkerboard"]()
    pattern = (-1.0) ** (torch.arange(64)[:, None] + torch.arange(64)).expand(1, 3, 64, 64)
    target = wave(0.375, 0.2) + 0.01 * pattern
    assert measure(target + 0.01 * pattern, target).item() == pytest.approx(20 * math.log10(2), abs=1e-2)
    assert measure(wave(0.375, 0.4) - 0.01 * pattern, target).item() == pytest.approx(0, abs=1e-2)
    assert measure(wave(0.5, 0.2), target).item() < -20  # stripes are no checkerboard


def test_texture_is_the_amount_that_is_missing():
    """Ramps of constant gradient: a fifth less texture everywhere is 0.2, and direction does not count."""
    ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
    measure = MEASURES["texture"]()
    assert measure(0.8 * ramp, ramp).item() == pytest.approx(0.2, abs=1e-5)
    assert measure(1 - ramp, ramp).item() == pytest.approx(0, abs=1e-5)
    assert measure(ramp.mT, ramp).item() == pytest.approx(0, abs=1e-5)
    flat = torch.full_like(ramp, 0.3)
    assert measure(flat, ramp).item() == pytest.approx(1)
    assert measure(flat, flat).item() == 0
    assert measure(ramp, flat).item() == math.inf


def test_consistency_ignores_what_the_input_does_not_show(truth):
    measure = MEASURES["consistency"].for_scale(2)
    assert measure(project(torch.rand(truth.shape), truth), truth).tolist() == [math.inf] * len(truth)
    assert measure(truth + 0.01, truth).tolist() == pytest.approx([40.0] * len(truth), abs=1e-3)
    for scale in (2, 4):
        task = SuperResolutionTask(
            Residual(8, 1, scale), losses.L1(), torch.optim.Adam, schedules.constant, None, {}, ["consistency"]
        )
        low = images.block_mean(truth, scale)
        enlarged = low.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        assert task.measures["consistency"](enlarged, truth).tolist() == [math.inf] * len(truth)
    assert MEASURES["consistency"].for_scale(2)(enlarged, truth).max() < 60


def test_each_value_is_that_of_the_image_alone(truth):
    prediction = blur(truth, 0.8)
    for name in ("texture", "consistency", "band_energy", "checkerboard"):
        measure = MEASURES[name]()
        together = measure(prediction, truth).tolist()
        alone = [measure(prediction[i : i + 1], truth[i : i + 1]).item() for i in range(len(truth))]
        assert together == pytest.approx(alone, rel=1e-5)
        gray = [images.luma(batch) for batch in (prediction, truth)]  # the pair `bicubic_luma` has one channel
        assert measure(*gray).shape == (len(truth),)


@pytest.mark.parametrize(
    ("name", "shape", "smallest"), [("texture", (9, 8), 9), ("lpips", (40, 16), 17)], ids=["texture", "lpips"]
)
def test_images_that_are_too_small_are_an_error(name, shape, smallest):
    with pytest.raises(UserError, match=rf"{shape[1]}x{shape[0]} images is not defined. .*at least {smallest}"):
        MEASURES[name].check(torch.rand(1, 3, *shape))
    MEASURES[name].check(torch.rand(1, 3, smallest, smallest))


# -- the order of predictions ------------------------------------------------------------------------------------------


def test_texture_orders_predictions_as_lpips_does(variants, truth):
    """The order is that of LPIPS, which the next test verifies where its weights are on disk.

    By LPIPS: 0.051, 0.053, 0.060, 0.092, 0.098, 0.167, 0.191.
    """
    texture = {name: summary("texture", one, truth) for name, one in variants.items()}
    assert sorted(texture, key=texture.__getitem__) == list(variants)
    psnr = {name: summary("psnr", one, truth) for name, one in variants.items()}
    assert psnr["blurred truth"] > psnr["detail, 2 pixels off"] + 3  # which is why PSNR is not enough


@needs_backbone
def test_lpips_orders_the_predictions(variants, truth, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(BACKBONE.parents[2]))
    lpips = {name: summary("lpips", one, truth) for name, one in variants.items()}
    assert sorted(lpips, key=lpips.__getitem__) == list(variants)
    texture = [summary("texture", one, truth) for one in variants.values()]
    assert spearmanr(texture, list(lpips.values())).statistic == pytest.approx(1)


def test_band_energy_tells_blur_from_noise(variants, truth):
    energy = {name: summary("band_energy", one, truth) for name, one in variants.items()}
    assert energy["bicubic"] < energy["blurred truth"] < energy["blurred truth, unsharp mask"] < 0
    assert abs(energy["detail, 2 pixels off"]) < 1
    noisy = truth + 0.05 * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0))
    assert summary("band_energy", noisy.clamp(0, 1), truth) > 1


def test_only_bicubic_disagrees_with_its_input(variants, truth):
    consistency = {name: summary("consistency", one, truth) for name, one in variants.items()}
    assert min(consistency, key=consistency.__getitem__) == "bicubic"
    assert min(value for name, value in consistency.items() if name != "bicubic") > consistency["bicubic"] + 10


# -- LPIPS and its weights ---------------------------------------------------------------------------------------------


@needs_backbone
def test_lpips_has_the_values_of_torchmetrics_documentation(monkeypatch):
    """From the docstring of its functional, whose images are in [-1, 1]."""
    monkeypatch.setenv("TORCH_HOME", str(BACKBONE.parents[2]))
    generator = torch.Generator().manual_seed(42)
    pair = [torch.rand(2, 3, 100, 100, generator=generator) for _ in range(2)]
    measure = MEASURES["lpips"]()
    assert measure(*pair).tolist() == pytest.approx([0.1024, 0.0938], abs=5e-5)
    assert measure(*(images.luma(one) for one in pair)).shape == (2,)
    assert measure(pair[0], pair[0]).tolist() == [0, 0]
    assert not any(weight.requires_grad for weight in measure.parameters())


def build(kind=SuperResolutionTask, **settings):
    return kind(Residual(8, 1, 2), losses.L1(), torch.optim.Adam, schedules.constant, None, {}, **settings)


def test_without_its_weights_lpips_is_left_out_with_one_line(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *_, **__: pytest.fail("a download was tried"))
    metrics._left_out.cache_clear()
    with caplog.at_level(logging.INFO, "srcolor"):
        tasks = [build(), build(), build(ColorizationTask)]
    for task in tasks:
        assert [*task.measures, "lpips"] == list(task.default_measures)
    place = tmp_path / "hub" / "checkpoints"
    (line,) = [record.getMessage() for record in caplog.records if "lpips" in record.getMessage()]
    assert line.startswith("Skipping lpips. LPIPS needs torchvision's weights of SqueezeNet 1.1.")
    assert f"Put squeezenet1_1-b8a52dc0.pth into {place}" in line
    with pytest.raises(UserError, match=f"Put squeezenet1_1-b8a52dc0.pth into {place}"):
        build(measures=["psnr", "lpips"])
    metrics._left_out.cache_clear()


def test_damaged_weights_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    perceptual.backbone().parent.mkdir(parents=True)
    for content in (b"", b"<html>404</html>"):
        perceptual.backbone().write_bytes(content)
        with pytest.raises(UserError, match=r"squeezenet1_1-b8a52dc0.pth is damaged: .*Replace it"):
            build(measures=["lpips"])
