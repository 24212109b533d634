import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from skimage.color import rgb2lab

from srcolor import images
from srcolor.data import pairs
from srcolor.errors import UserError


def test_block_mean_is_the_mean_of_each_block_by_hand():
    image = torch.tensor([[[[0.0, 0.2, 1.0, 1.0], [0.4, 0.6, 1.0, 0.0]]]])
    torch.testing.assert_close(images.block_mean(image, 2), torch.tensor([[[[0.3, 0.75]]]]))


@pytest.mark.parametrize("shrink", [images.block_mean, images.bicubic_down])
def test_sides_not_divisible_by_the_scale_are_an_error_with_a_fix(shrink):
    with pytest.raises(UserError, match=r"cannot shrink 9x8 images by 2.*Crop them to 8x8"):
        shrink(torch.rand(1, 3, 8, 9), 2)


def test_bicubic_down_matches_pillow_within_one_level():
    photo = data.astronaut()[:128, :128]
    ours = images.to_uint8(images.bicubic_down(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255, 2))
    pillows = np.asarray(Image.fromarray(photo).resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - pillows).max() <= 1


def test_bicubic_up_matches_pillow_within_one_level():
    photo = data.astronaut()[:64, :64]
    ours = images.to_uint8(images.bicubic_up(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255, 2))
    pillows = np.asarray(Image.fromarray(photo).resize((128, 128), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - pillows).max() <= 1


@pytest.mark.parametrize(
    ("make", "shrink"), [(pairs.block_mean, images.block_mean), (pairs.bicubic, images.bicubic_down)]
)
def test_pairs_use_the_image_as_target_and_do_not_modify_it(make, shrink):
    full = torch.rand(2, 3, 8, 8)
    before = full.clone()
    pair = make(full, torch.tensor([5, 6]), scale=2)
    assert torch.equal(pair.target, before)
    assert torch.equal(full, before)
    assert torch.equal(pair.input, shrink(before, 2))
    assert pair.row.tolist() == [5, 6]


def test_with_luma_keeps_the_gray_even_with_extreme_colors():
    torch.manual_seed(0)
    gray = torch.rand(1, 1, 64, 64)
    gray[..., :8], gray[..., 8:16] = 0, 1
    colors = torch.randn(1, 3, 64, 64) * 20
    out = images.with_luma(colors, gray)
    assert out.min() > -1e-6
    assert out.max() < 1 + 1e-6
    torch.testing.assert_close(images.luma(out), gray, rtol=0, atol=1e-6)
    rounded = images.to_uint8(out).float() / 255
    assert (images.luma(rounded) - gray).abs().max() <= 1 / 255


@pytest.mark.parametrize("color", [(1, 0, 0), (0, 0, 1), (0, 1, 0), (1, 1, 0), (0, 0, 0), (1, 1, 1)])
def test_with_luma_of_its_own_luma_leaves_a_color_unchanged(color):
    patch = torch.tensor(color, dtype=torch.float32).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    torch.testing.assert_close(images.with_luma(patch, images.luma(patch)), patch, rtol=0, atol=1e-6)
    again = images.from_ab(images.luma(patch), images.rgb_to_lab(patch)[:, 1:])
    torch.testing.assert_close(images.luma(again), images.luma(patch), rtol=0, atol=1e-6)
    chroma, before = ((image - images.luma(patch))[0, :, 0, 0] for image in (again, patch))
    if before.norm() > 1e-3:  # still red, and not blue
        assert torch.cosine_similarity(chroma, before, dim=0) > 0.8


def test_with_luma_reduces_chroma_only_as_needed():
    red, gray = torch.tensor([0.9, 0.2, 0.1]).reshape(1, 3, 1, 1), torch.full((1, 1, 1, 1), 0.05)
    out = images.with_luma(red, gray)
    assert out.min() == pytest.approx(0, abs=1e-7)  # one channel at its end
    chroma = red - images.luma(red)
    torch.testing.assert_close((out - gray) / (out - gray).norm(), chroma / chroma.norm())


def test_with_luma_has_a_finite_gradient_everywhere():
    gray = torch.tensor([0.0, 1e-7, 0.5, 1.0]).reshape(1, 1, 1, 4).requires_grad_()
    ab = torch.zeros(1, 2, 1, 4, requires_grad=True)
    images.from_ab(gray, ab).sum().backward()
    assert ab.grad.isfinite().all()
    assert gray.grad.isfinite().all()


def test_lab_matches_skimage():
    photo = data.astronaut()[:64, :64]
    ours = images.rgb_to_lab(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].double() / 255)
    np.testing.assert_allclose(ours[0].permute(1, 2, 0).numpy(), rgb2lab(photo), atol=0.01)
    torch.testing.assert_close(images.rgb_to_lab(images.lab_to_rgb(ours)), ours, rtol=0, atol=1e-4)


def test_gray_pairs_are_the_luma_of_the_shrunk_image():
    full, index = torch.rand(2, 3, 8, 8), torch.tensor([5, 6])
    pair = pairs.gray(full, index, shrink=2)
    assert torch.equal(pair.target, images.block_mean(full, 2))
    assert torch.equal(pair.input, images.luma(pair.target))
    pair = pairs.gray_block_mean(full, index, scale=2)
    assert torch.equal(pair.target, full)
    torch.testing.assert_close(pair.input, images.block_mean(images.luma(full), 2))


@pytest.mark.parametrize(("channels", "scale"), [(3, 2), (1, 2), (3, 3)])
def test_the_projection_onto_a_low_res_image_raises_the_error_against_no_target_of_it(channels, scale):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(20, channels, 6 * scale, 4 * scale, generator=generator)
    low_res = images.block_mean(target, scale)
    for noise in (0.01, 0.3):
        output = target + noise * torch.randn(target.shape, generator=generator) + noise / 2
        projected = images.consistent(output, low_res)
        before, after = ((image - target).square().mean((1, 2, 3)) for image in (output, projected))
        assert (after < before).all()
        # Orthogonal: what it removes is the part of the error that the low-res image shows.
        torch.testing.assert_close(before, after + (output - projected).square().mean((1, 2, 3)))


def test_a_projected_image_has_the_block_means_brightness_and_color_of_its_input():
    torch.manual_seed(0)
    low_res, output = torch.rand(4, 3, 8, 8), torch.randn(4, 3, 16, 16)
    projected = images.consistent(output, low_res)
    torch.testing.assert_close(images.block_mean(projected, 2), low_res, rtol=0, atol=1e-6)
    torch.testing.assert_close(projected.mean((2, 3)), low_res.mean((2, 3)), rtol=0, atol=1e-6)
    torch.testing.assert_close(images.consistent(projected, low_res), projected, rtol=0, atol=1e-6)
    torch.testing.assert_close(images.consistent(output.bfloat16(), low_res), projected, rtol=0, atol=0.02)
    assert images.consistent(output.bfloat16(), low_res).dtype == torch.float32
