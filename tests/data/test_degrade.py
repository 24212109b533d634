"""Each degradation against an independent reference; degradation of batches, pairs and runs."""

import math
from dataclasses import replace

import numpy as np
import pytest
import pyvips
import torch
from data_helpers import batches, folder
from scipy import ndimage
from skimage import data as photographs

from srcolor.data import degrade, draws, pairs
from srcolor.data.degrade import PRESETS
from srcolor.errors import UserError

NAMES = [*PRESETS["old"].photo, *PRESETS["old"].file]


@pytest.fixture(scope="module")
def photos():
    """Eight different crops of a photograph, (8, 3, 48, 48)."""
    pixels = torch.from_numpy(photographs.astronaut()).permute(2, 0, 1).float() / 255
    return pixels[:, 60:252, 120:216].unfold(1, 48, 48).unfold(2, 48, 48).flatten(1, 2).transpose(0, 1).contiguous()


def flat(height=64, width=64):
    return torch.full((1, 1, height, width), 0.5)


def table(count, seed=0):
    return torch.rand(count, draws.COLUMNS, generator=torch.Generator().manual_seed(seed))


def block_mean(images, row):
    return pairs.block_mean(images, row, scale=2)


# -- each degradation ----------------------------------------------------------------------------------------------


def test_blur_along_the_axes_is_scipys(photos):
    blurred = degrade.blur(photos[:1], torch.tensor([[0.0, 1.3, 0.6]]))  # 1.3 to the right, 0.6 down
    expected = ndimage.gaussian_filter(photos[0].double().numpy(), (0, 0.6, 1.3), mode="nearest", radius=degrade.RADIUS)
    torch.testing.assert_close(blurred[0].double(), torch.from_numpy(expected), rtol=0, atol=1e-5)


def test_blur_at_an_angle_has_the_covariance_of_its_gaussian():
    point = torch.zeros(1, 1, 9, 9)
    point[..., 4, 4] = 1
    spread = degrade.blur(point, torch.tensor([[1 / 6, 1.1, 0.7]]))[0, 0].double()
    down, right = torch.meshgrid(*[torch.arange(-4.0, 5, dtype=torch.float64)] * 2, indexing="ij")
    measured = [(spread * product).sum().item() for product in (right * right, right * down, down * down)]
    cos, sin = math.cos(math.pi / 6), math.sin(math.pi / 6)
    first, second = 1.1**2, 0.7**2
    expected = [first * cos**2 + second * sin**2, (first - second) * cos * sin, first * sin**2 + second * cos**2]
    np.testing.assert_allclose(measured, expected, atol=0.03)


def test_fading_by_hand():
    image = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    faded = degrade.fade(image, torch.tensor([[0.5, 0.6, 0.1]])).flatten()
    # The square roots 0, 0.5, 1; with contrast 0.2, 0.5, 0.8; then 0.1 + 0.9 times those.
    torch.testing.assert_close(faded, torch.tensor([0.28, 0.55, 0.82]))


def test_grain_has_its_amplitude_and_the_correlation_of_its_size():
    image = flat(256, 256)
    noise = (degrade.grain(image, torch.tensor([[0.3, 0.9, 0.04]])) - image)[0, 0]
    assert noise.std().item() == pytest.approx(0.04 * 1.3, rel=0.03)
    # Of white noise after a Gaussian of sigma s: a Gaussian of sigma s * sqrt(2).
    neighbors = (noise[:, 1:] * noise[:, :-1]).mean() / noise.square().mean()
    assert neighbors.item() == pytest.approx(math.exp(-1 / (4 * 0.9**2)), abs=0.02)
    dark = torch.full_like(image, 0.02)
    factor = (degrade.grain(dark, torch.tensor([[0.3, 0.3, 0.005]])) - dark).std() / 0.005
    assert factor.item() == pytest.approx(0.3 + math.sqrt(4 * 0.02 * 0.98), rel=0.03)


def test_grain_is_the_same_in_every_channel():
    noise = degrade.grain(flat().expand(-1, 3, -1, -1), torch.tensor([[0.7, 0.5, 0.05]])) - 0.5
    assert noise.abs().max() > 0.05
    torch.testing.assert_close(noise[:, 0], noise[:, 1])
    torch.testing.assert_close(noise[:, 0], noise[:, 2])


@pytest.mark.parametrize("seed", [0.1, 0.35, 0.8])
def test_a_scratch_crosses_every_row_with_the_area_of_its_profile(seed):
    image = flat(64, 200)
    change = (degrade.scratch(image, torch.tensor([[seed, 1.0, 0.8]])) - image)[0, 0]
    sides = change.sum(1)
    assert sides.sign().unique().numel() == 1  # white or black from top to bottom
    expected = 0.5 * degrade.OPACITY * 0.8 * math.sqrt(2 * math.pi)  # half of the range, times the area of a Gaussian
    torch.testing.assert_close(sides.abs(), torch.full((64,), expected), rtol=0.02, atol=0)


def test_scratches_and_dust_have_at_most_their_number():
    image = flat(128, 128)
    for seed in (0.2, 0.5, 0.9):
        scratched = degrade.scratch(image, torch.tensor([[seed, 3.9, 0.4]])) - image
        per_row = [ndimage.label(row)[1] for row in (scratched.abs() > 0.05)[0, 0].numpy()]
        assert 1 <= max(per_row) <= 3
        dusty = (degrade.dust(image, torch.tensor([[seed, 6.5]])) - image).abs() > 0.05
        assert 3 <= ndimage.label(dusty[0, 0].numpy())[1] <= 6


def test_spots_have_the_area_of_a_gaussian_within_the_radii():
    image = flat(200, 200)
    smallest, largest = (0.5 * degrade.OPACITY * 2 * math.pi * radius**2 for radius in degrade.SPOT_RADIUS)
    areas, signs = [], set()
    for number in range(40):
        change = degrade.dust(image, torch.tensor([[number / 40, 1.0]])) - image
        areas.append(change.abs().sum().item())
        signs.add(change.sum().sign().item())
    assert signs == {-1, 1}
    assert smallest * 0.9 < np.median(areas) < largest
    assert max(areas) <= largest * 1.02
    assert max(areas) > 0.7 * largest


def test_scratches_and_dust_stay_in_range(photos):
    for function, parameters in ((degrade.scratch, [0.5, 4.0, 0.9]), (degrade.dust, [0.5, 18.0])):
        damaged = function(photos, torch.tensor([parameters] * len(photos)))
        assert 0 <= damaged.min() < damaged.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_is_that_of_libvips(photos, channels):
    images = photos[:2, :channels]
    compressed = degrade.jpeg(images, torch.tensor([[40.0], [90.2]]))
    for image, result, quality in zip(images, compressed, (40, 90), strict=True):
        pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
        file = pyvips.Image.new_from_array(pixels).jpegsave_buffer(Q=quality, subsample_mode="on")
        expected = pyvips.Image.new_from_buffer(file, "").numpy().reshape(pixels.shape)
        difference = np.abs((result * 255).round().permute(1, 2, 0).numpy() - expected)
        assert difference.max() <= 2
        assert np.abs(expected - pixels.astype(float)).mean() > 5 * difference.mean()


# -- batches -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_columns_are_as_many_as_the_parameters(name):
    for preset in (PRESETS["mild"], PRESETS["old"]):
        step = {**preset.photo, **preset.file}[name]
        assert step.columns.stop - step.columns.start == 1 + len(step.ranges)


def test_columns_do_not_overlap():
    used = [
        column
        for name in (*draws.__dict__,)
        if isinstance(getattr(draws, name), slice)
        for column in range(draws.COLUMNS)[getattr(draws, name)]
    ]
    assert sorted([*used, draws.CLEAN]) == list(range(draws.COLUMNS))


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_degraded_in_the_same_way_in_any_batch(photos, name):
    steps, draw = degrade.alone(PRESETS["old"], name), table(8)
    whole = degrade.degraded(block_mean, photos, torch.arange(8), draw, steps).input
    order = torch.tensor([5, 2, 7])
    part = degrade.degraded(block_mean, photos[order], order, draw[order], steps).input
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-5 if name != "jpeg" else 2 / 255)
    other = degrade.degraded(block_mean, photos, torch.arange(8), table(8, seed=1), steps).input
    if name in ("grain", "scratches", "dust"):
        assert (other - whole).abs().amax((1, 2, 3)).min() > 0.01  # another seed


def test_a_third_is_clean():
    images, count = torch.rand(1, 3, 16, 16).expand(1500, -1, -1, -1), 1500
    pair = degrade.degraded(block_mean, images, torch.arange(count), table(count), PRESETS["old"])
    clean = block_mean(images, torch.arange(count))
    untouched = (pair.input - clean.input).abs().amax((1, 2, 3)) < 1e-6
    # A third, and of the others those that no degradation happens to hit: 0.2 * 0.3 * 0.2 * 0.7 * 0.7 * 0.3.
    expected = 1 / 3 + 2 / 3 * 0.2 * 0.3 * 0.2 * 0.7 * 0.7 * 0.3
    assert untouched.float().mean().item() == pytest.approx(expected, abs=0.04)


def test_only_fading_is_in_the_target(photos):
    row, draw = torch.arange(8), table(8)
    draw[:, draws.CLEAN] = 1
    faded = draw.clone()
    for columns in (draws.BLUR, draws.GRAIN, draws.SCRATCHES, draws.DUST, draws.JPEG):
        faded[:, columns.start] = 1  # not applied
    pair = degrade.degraded(block_mean, photos, row, draw, PRESETS["old"])
    expected = degrade.degraded(block_mean, photos, row, faded, PRESETS["old"])
    torch.testing.assert_close(block_mean(pair.target, row).input, expected.input, rtol=0, atol=1e-6)
    assert (pair.target - photos).abs().max() > 0.05
    assert (pair.input - expected.input).abs().max() > 0.05


def test_mild_is_closer_to_clean_than_old(photos):
    row, draw = torch.arange(8), table(8)
    draw[:, draws.CLEAN] = 1
    errors = [
        (degrade.degraded(block_mean, photos, row, draw, PRESETS[name]).input - block_mean(photos, row).input).std()
        for name in ("none", "mild", "old")
    ]
    assert errors[0] == 0 < errors[1] < errors[2] / 1.5


def test_alone_is_the_middle_of_the_range_for_every_image(photos):
    steps = degrade.alone(PRESETS["old"], "fading")
    pair = degrade.degraded(block_mean, photos, torch.arange(8), table(8), steps)
    faded = degrade.fade(photos, torch.tensor([[1.1, 0.7, 0.125]] * 8))
    torch.testing.assert_close(pair.input, block_mean(faded, None).input, rtol=0, atol=1e-5)


def test_jpeg_comes_after_downsizing(photos):
    """Blocks of 8 pixels in the small image: its DCT coefficients are multiples of the quantization steps."""
    small = degrade.degraded(block_mean, photos, torch.arange(8), table(8), degrade.alone(PRESETS["old"], "jpeg")).input
    expected = degrade.jpeg(block_mean(photos, None).input, torch.full((8, 1), 67.5))
    torch.testing.assert_close(small, expected, rtol=0, atol=1e-6)


def test_masks_are_not_degraded(photos):
    def with_mask(images, row):
        return pairs.Pair(images[:, :3], images[:, 3:], row)

    mask = (photos[:, :1] > 0.5).float()
    pair = degrade.degraded(with_mask, torch.cat([photos, mask], 1), torch.arange(8), table(8), PRESETS["old"])
    assert torch.equal(pair.target, mask)
    assert not torch.equal(pair.input, photos)


# -- datamodule ----------------------------------------------------------------------------------------------------


def inputs(data, split="train"):
    loader = getattr(data, f"{split}_dataloader")()
    made = [data._pair(batch, training=split == "train") for batch in loader]
    return torch.cat([pair.input for pair in made])


def test_batch_size_workers_and_a_second_run_do_not_change_a_sample(pictures):
    options = {"degrade": "old", "flips": "dihedral"}
    expected = inputs(folder(pictures, **options, batch_size=5))
    torch.testing.assert_close(inputs(folder(pictures, **options, batch_size=5)), expected, rtol=0, atol=0)
    for changes in ({"batch_size": 3}, {"batch_size": 5, "workers": 2}):
        torch.testing.assert_close(inputs(folder(pictures, **options, **changes)), expected, rtol=0, atol=2 / 255)
    assert not torch.equal(inputs(folder(pictures, **options, seed=1)), expected)


def test_evaluation_is_degraded_by_the_row_whatever_the_seed_and_the_path(pictures):
    one, two = folder(pictures, degrade="old"), folder(pictures, degrade="old", seed=3, batch_size=2)
    for split in ("val", "test"):
        expected = inputs(one, split)
        torch.testing.assert_close(inputs(two, split), expected, rtol=0, atol=2 / 255)
        listed = torch.cat([pair.input for pair in one.pairs(split)])
        torch.testing.assert_close(listed, expected, rtol=0, atol=2 / 255)
    rows = torch.tensor([4, 0, 9])
    assert torch.equal(draws.evaluation(rows), draws.evaluation(torch.arange(10))[rows])


def test_evaluation_and_training_are_degraded(pictures):
    old = folder(pictures, degrade="old")
    old.degradation = replace(PRESETS["old"], clean=0)
    for split in ("train", "val", "test"):
        assert not torch.equal(inputs(old, split), inputs(folder(pictures), split))


def test_earlier_draws_keep_their_values_when_columns_are_added():
    _, epoch = draws.epoch(seed=0, number=3, rows=7, length=21)
    recorded = {0: 0.932527, 12: 0.208157, 13: 0.163667, 15: 0.117624}  # before the columns of the degradations
    np.testing.assert_allclose(epoch[0, list(recorded)], list(recorded.values()), atol=1e-6)


def test_degradation_does_not_change_the_other_draws(pictures):
    plain, old = (batches(folder(pictures, crop="random", degrade=name).train_dataloader()) for name in ("none", "old"))
    for one, two in zip(plain, old, strict=True):
        assert torch.equal(one[0], two[0])


def test_an_unknown_preset_is_an_error(pictures):
    with pytest.raises(UserError, match=r"unknown data\.degrade=oldd: expected one of none, mild, old\."):
        folder(pictures, degrade="oldd")
