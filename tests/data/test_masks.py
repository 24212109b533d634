"""A source with masks: the fourth plane stays aligned with the image from decoding to the pair."""

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from conftest import COMMON, FILES
from PIL import Image

from srcolor.data.crops import is_flat, is_gray, sample
from srcolor.data.sources.folder import Folder
from srcolor.images import Pair


def mask_of(rgb):
    """A mask that can be recomputed from the image: 3 where red exceeds 100, else 1."""
    return np.where(rgb[..., 0] > 100, 3, 1).astype(np.uint8)


@dataclass(kw_only=True, eq=False)
class Masked(Folder):
    planes = 4

    def decode(self, item):
        rgb, digest = super().decode(item)
        return np.dstack([rgb, mask_of(rgb)]), digest


@pytest.fixture(scope="module")
def masked_images(tmp_path_factory):
    """Twenty images of 48x64 with random rectangles, in two levels of red and noise in green and blue."""
    root = tmp_path_factory.mktemp("masked")
    random = np.random.default_rng(0)
    for number in range(20):
        pixels = random.integers(0, 256, (48, 64, 3), np.uint8)
        pixels[..., 0] = 0
        for top, left in random.integers(0, 40, (4, 2)):
            pixels[top : top + 16, left : left + 20, 0] = 200
        Image.fromarray(pixels).save(root / f"{number:02d}.png")
    return root


def masked(root, **options):
    pair = {"pair": lambda images, row: Pair(images[:, :3], images[:, 3:], row)}
    data = Masked(**(COMMON | FILES | pair | {"root": str(root)} | options))
    data.setup()
    return data


def disagreement(pair):
    """Return the fraction of mask pixels that differ from the mask of the image."""
    rgb = (pair.input * 255).permute(0, 2, 3, 1).numpy()
    mask = (pair.target[:, 0] * 255).round().numpy().astype(np.uint8)
    assert set(np.unique(mask)) == {1, 3}
    return (mask_of(rgb) != mask).mean()


@pytest.mark.parametrize("crop", ["center", "random"])
@pytest.mark.parametrize("cache", [True, False])
def test_masks_stay_aligned_in_training_and_evaluation(cache, crop, masked_images):
    data = masked(masked_images, crop=crop, cache=cache, flips="dihedral")
    for split in ("train", "val", "test"):
        assert all(disagreement(pair) == 0 for pair in data.pairs(split))
    batches = list(data.train_dataloader())
    assert batches[0].images.shape[1:] == (32, 32, 4)
    for batch in batches:
        assert disagreement(data._pair(batch, training=True)) == 0


def test_cached_images_have_height_times_width_times_planes_bytes(masked_images, tmp_path):
    data = masked(masked_images, cache_dir=str(tmp_path), crop="random")
    (file,) = tmp_path.rglob("pixels.bin")
    assert file.stat().st_size == 20 * 48 * 64 * 4
    assert data.index.shapes.tolist() == [[48, 64, 4]] * 20
    image = data.decoded_images().read(0)
    assert np.array_equal(image[..., 3], mask_of(image))


def test_zoom_and_jitter_keep_masks_aligned(masked_images):
    """Bilinear and nearest interpolation differ at the corners of a region only."""
    zoomed = masked(masked_images, zoom=0.5).augmented(0, 32)
    assert 0 < disagreement(zoomed) < 0.03
    data = masked(masked_images, jitter=0.3)
    jittered = data.augmented(0, 4)
    unchanged = masked(masked_images).augmented(0, 4)
    assert torch.equal(jittered.target, unchanged.target)
    assert not torch.equal(jittered.input, unchanged.input)


def test_masks_do_not_affect_content_and_colors():
    mask = np.random.default_rng(0).integers(0, 256, (32, 32, 1), np.uint8)
    flat = np.concatenate([np.full((32, 32, 3), 90, np.uint8), mask], 2)
    assert is_flat(flat)
    assert sample(flat).shape[1] == 3
    assert is_gray(sample(flat)[None])[0]


def test_a_mask_is_fitted_like_its_image_by_nearest_neighbor(tmp_path):
    data = Masked(**(COMMON | FILES | {"root": str(tmp_path)}))
    labels = np.zeros((100, 60), np.uint8)
    labels[50:, :30] = 7
    mask = data.fit(Image.fromarray(labels), Image.Resampling.NEAREST)
    assert mask.shape == (32, 32)
    assert (mask[16:, :16] == 7).all()
    assert mask.sum() == 7 * 16 * 16


def test_image_with_the_wrong_planes_is_skipped_with_a_reason(masked_images):
    class Wrong(Masked):
        planes = 3

    wrong = Wrong(**(COMMON | FILES | {"root": str(masked_images)}))
    with pytest.raises(ValueError, match=r"decode returned \(32, 32, 4\), expected \(height, width, planes=3\)"):
        wrong.setup()


def test_digests_come_from_the_image_file(masked_images):
    data = masked(masked_images)
    expected = {hashlib.sha256(path.read_bytes()).hexdigest() for path in masked_images.iterdir()}
    assert {digest for split in ("train", "val", "test") for digest in data.digests(split)} == expected
    assert data.augmented(0, 2).input.shape == (2, 3, 32, 32)
