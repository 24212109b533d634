"""The grid of crops, and flat and gray ones."""

import logging
import shutil

import numpy as np
import pytest
from conftest import COMMON
from data_helpers import batches, folder, names
from PIL import Image
from skimage import data as skimage_data

from srcolor.data import crops
from srcolor.data.sources.photos import Photos


def test_evaluation_crops_form_a_grid(pictures):
    data = folder(pictures, size=16, crop="random")
    (batch,) = batches(folder(pictures, size=16, crop="random", batch_size=1000).test_dataloader())
    name, _, corner = data.name("test", 1).partition("@")
    top, left = map(int, corner.split(","))
    pixels = np.asarray(Image.open(pictures / name))[top : top + 16, left : left + 16]
    assert np.array_equal(batch[0][1].numpy(), pixels)
    assert len(batch[0]) == 9 * len(names(data, "test"))


@pytest.mark.parametrize(("spread", "flat"), [(0.0, True), (0.9, True), (1.2, False), (40.0, False)])
def test_is_flat_means_a_standard_deviation_below_one_level(spread, flat):
    values = np.random.default_rng(0).normal(128, spread, (128, 128, 3)).round().clip(0, 255).astype(np.uint8)
    assert crops.is_flat(values) == flat


def test_bright_pixels_between_the_samples_are_content():
    values = np.zeros((128, 128, 3), np.uint8)
    values[33:49, 33:49] = 255
    assert not crops.is_flat(values)


def test_no_split_of_the_photographs_has_a_flat_crop():
    data = Photos(**(COMMON | {"size": 128, "holdout": "photo"}))
    data.setup()
    assert data.index.flat > 0  # the dark corners of the retina
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        for batch in loader:
            assert (batch.images.flatten(1, 2).double().std(1, correction=0).amax(1) >= 1).all()


def toned(name):
    """A photograph without colors, or toned in one."""
    photo = np.asarray(Image.fromarray(skimage_data.coffee()[:384, :384]).convert("L"), np.float64)[..., None] / 255
    tones = {"gray": [255, 255, 255], "nearly gray": [255, 250, 246], "sepia": [255, 225, 180], "blue": [170, 200, 255]}
    return (photo * tones[name]).round().astype(np.uint8)


@pytest.mark.parametrize("name", ["gray", "nearly gray", "sepia", "blue"])
def test_gray_and_toned_images_have_no_color(name):
    assert crops.is_gray(crops.sample(toned(name))[None]).all()


def test_photographs_have_color():
    for crop in (skimage_data.coffee()[:384, :384], skimage_data.astronaut()[:128, 200:328]):
        assert not crops.is_gray(crops.sample(crop)[None])[0]


def test_drop_gray_removes_gray_crops_from_every_split_and_counts_them(pictures, tmp_path, caplog):
    shutil.copytree(pictures, tmp_path / "pictures")
    for name in ("gray", "sepia"):
        Image.fromarray(toned(name)[:48, :48]).save(tmp_path / "pictures" / f"{name}.png")
    root = tmp_path / "pictures"
    caplog.set_level(logging.INFO)
    kept, dropped = (folder(root, drop_gray=drop) for drop in (False, True))
    gone = set.union(*(names(kept, split) - names(dropped, split) for split in crops.SPLITS))
    assert {"gray.png", "sepia.png"} <= gone
    assert len(gone) < 6
    for split in crops.SPLITS:
        assert names(dropped, split) == names(kept, split) - gone
    assert f"data.drop_gray: excluded {len(gone)} of 26 crops, which are nearly gray or toned" in caplog.text
