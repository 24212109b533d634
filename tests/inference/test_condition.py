"""The condition of photographs: the estimates against known noise and compression, and the stretch of the contrast."""

import io

import numpy as np
import pytest
from PIL import Image
from skimage import data

from srcolor.inference import condition, image_files

PHOTOS = ("astronaut", "coffee", "chelsea", "rocket", "camera", "brick", "clock")


def gray(name):
    return np.asarray(Image.fromarray(getattr(data, name)()).convert("L"), float)


def compressed(luma, quality):
    buffer = io.BytesIO()
    Image.fromarray(luma.astype(np.uint8)).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), float)


def noisy(luma, sigma):
    noise = np.random.default_rng(0).normal(0, sigma, luma.shape)
    return np.clip(np.rint(luma + noise), 0, 255)


@pytest.mark.parametrize("sigma", [4, 8, 16])
@pytest.mark.parametrize("name", PHOTOS)
def test_noise_is_estimated_within_a_level_and_a_fifth(name, sigma):
    assert condition.noise(noisy(gray(name), sigma)) == pytest.approx(sigma, abs=1 + 0.2 * sigma)


@pytest.mark.parametrize("name", PHOTOS)
def test_estimates_separate_clean_from_worn_photographs(name):
    luma = gray(name)
    assert condition.noise(luma) < condition.NOISY < condition.noise(noisy(luma, 4))
    worn = [condition.blockiness(compressed(luma, quality)) for quality in (75, 50, 30)]
    assert condition.blockiness(luma) < condition.BLOCKY < worn[0] < worn[1] < worn[2]
    assert condition.blockiness(compressed(luma, 95)) < condition.BLOCKY


def test_blocks_are_found_on_the_grid_of_the_file_only():
    luma = compressed(gray("coffee"), 40)
    assert condition.blockiness(luma) > condition.BLOCKY
    assert condition.blockiness(luma[3:, 5:]) < condition.BLOCKY / 2  # the steps are elsewhere


def test_a_large_image_is_examined_in_its_middle_on_the_grid(monkeypatch):
    monkeypatch.setattr(condition, "SIDE", 128)
    pixels = np.repeat(compressed(gray("coffee"), 40)[:300, :500, None], 3, 2).astype(np.uint8)
    found = condition.examine(image_files.Picture(image_files.to_image(pixels)))
    assert found.blocks == pytest.approx(condition.blockiness(pixels[80:208, 184:312, 0].astype(float)), abs=1e-6)
    assert found.is_worn


def test_16_bits_are_examined_in_the_same_levels():
    pixels = data.coffee()
    one, other = (
        condition.examine(image_files.Picture(image_files.to_image(p)))
        for p in (pixels, pixels.astype(np.uint16) * 257)
    )
    assert tuple(one) == pytest.approx(tuple(other), abs=0.2)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (20, 20)])
def test_tiny_images_have_no_condition_to_repair(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    assert not condition.examine(image_files.Picture(image_files.to_image(pixels))).noise > 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_stretch_maps_low_to_black_and_high_to_white(dtype, monkeypatch):
    monkeypatch.setattr(condition, "STRIP", 5)  # several strips
    step = np.iinfo(dtype).max // 255
    pixels = (np.array([20, 60, 100, 140, 200]) * step).astype(dtype)[:, None, None].repeat(2, 1).repeat(3, 2)
    out = condition.stretch(pixels, 60, 140, np.empty_like(pixels))
    expected = np.array([0, 0, 127.5, 255, 255]) * step
    assert np.abs(out[:, 0, 0].astype(float) - expected).max() <= 0.5


def test_only_photographs_of_little_contrast_are_faded():
    full = condition.Condition(0, 0, 2, 250)
    assert not full.is_faded
    assert full._replace(high=150).is_faded
    assert not full._replace(high=2.5).is_faded  # one level
