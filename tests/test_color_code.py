"""Color codes: the optimal transport between two of them, and their vectors."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from srcolor import images
from srcolor.color_code import FLOOR, GAIN, ColorCode, color_code, from_vector, recolor, to_vector


def colors(count=3, seed=0, deviation=8.0, side=16):
    """Return a*, b* with correlated channels and different means, (count, 2, side, side)."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.eye(2) + 0.4 * torch.randn(count, 2, 2, generator=generator)
    noise = torch.randn(count, 2, side * side, generator=generator)
    means = 10 * torch.randn(count, 2, 1, generator=generator)
    return (deviation * mixing @ noise + means).view(count, 2, side, side)


def on_a_line(deviation):
    """Return the colors of an image of one hue, whose covariance is singular."""
    places = torch.randn(1, 1, 256, generator=torch.Generator().manual_seed(0))
    return (deviation * torch.tensor([1.0, 0.7])[:, None] * places + 5).view(1, 2, 16, 16)


def test_a_code_is_the_mean_and_the_covariance_of_numpy():
    ab = colors()
    code = color_code(ab)
    for number, pixels in enumerate(ab.flatten(2).double().numpy()):
        assert code.mean[number].numpy() == pytest.approx(pixels.mean(1), abs=1e-4)
        assert code.covariance[number].numpy() == pytest.approx(np.cov(pixels, bias=True), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("deviation", [0.5, 3.0, 10.0, 30.0])
def test_the_map_hits_mean_and_covariance(deviation):
    target = color_code(colors(seed=1, deviation=deviation))
    code = color_code(recolor(colors(deviation=deviation), target))
    torch.testing.assert_close(code.mean, target.mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(code.covariance, target.covariance, rtol=1e-5, atol=1e-4)


def test_the_map_is_the_optimal_transport_by_matrix_square_roots():
    """Olkin and Pukelsheim: C^-1/2 (C^1/2 D C^1/2)^1/2 C^-1/2, in float64."""
    ab, target = colors(), color_code(colors(seed=1))
    mapped = recolor(ab, target).flatten(2).double().numpy()
    for number, pixels in enumerate(ab.flatten(2).double().numpy()):
        half = sqrtm(np.cov(pixels, bias=True) + FLOOR * np.eye(2))
        inverse = np.linalg.inv(half)
        goal = target.covariance[number].double().numpy() + FLOOR * np.eye(2)
        transport = inverse @ sqrtm(half @ goal @ half) @ inverse
        expected = transport @ (pixels - pixels.mean(1, keepdims=True)) + target.mean[number].double().numpy()[:, None]
        assert mapped[number] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("ab", [colors(), on_a_line(1), on_a_line(60), torch.full((1, 2, 4, 4), 7.0)])
def test_an_image_mapped_to_its_own_code_stays_the_same(ab):
    torch.testing.assert_close(recolor(ab, color_code(ab)), ab, rtol=0, atol=1e-4)


def test_one_code_serves_all_images():
    ab, target = colors(count=3), color_code(colors(count=1, seed=1))
    together = recolor(ab, target)
    assert together.shape == ab.shape
    for number in range(3):
        torch.testing.assert_close(together[number : number + 1], recolor(ab[number : number + 1], target))


def test_the_gain_is_limited():
    """An image of nearly one color, mapped to a spread that is two thousand times its own."""
    ab = 5 + 0.01 * torch.randn(1, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    target = ColorCode(torch.tensor([[20.0, -10.0]]), 400 * torch.eye(2)[None])
    mapped = recolor(ab, target)
    torch.testing.assert_close(mapped.mean((2, 3)), target.mean)
    gain = (mapped - mapped.mean((2, 3), keepdim=True)).norm(dim=1) / (ab - ab.mean((2, 3), keepdim=True)).norm(dim=1)
    assert GAIN / 2 < gain.max() <= GAIN * 1.001
    variances = color_code(recolor(ab, target, limit=math.inf)).covariance.diagonal(dim1=1, dim2=2)
    assert variances.flatten().tolist() == pytest.approx([400, 400], rel=0.2)  # the floor is a tenth of their own


@pytest.mark.parametrize(
    "ab", [torch.full((1, 2, 8, 8), 7.0), torch.zeros(1, 2, 8, 8), on_a_line(1), on_a_line(60)],
    ids=["one color", "gray", "one hue", "one vivid hue"],
)  # fmt: skip
def test_images_without_a_spread_of_colors_have_finite_values_and_gradients(ab):
    leaves = [ab.clone().requires_grad_(), *(part.requires_grad_() for part in color_code(colors(count=1, seed=1)))]
    mapped = recolor(leaves[0], ColorCode(*leaves[1:]))
    vector = to_vector(color_code(leaves[0]))
    assert mapped.isfinite().all()
    assert vector.isfinite().all()
    (mapped.square().sum() + vector.sum()).backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves)


def test_recombined_with_the_gray_image_the_luma_is_kept():
    gray = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    rgb = images.from_ab(gray, recolor(colors(), color_code(colors(seed=1, deviation=25.0))))
    torch.testing.assert_close(images.luma(rgb), gray, rtol=0, atol=1e-5)


def test_a_vector_is_the_mean_and_the_log_cholesky_factor():
    """[[4, 2], [2, 10]] is the square of [[2, 0], [1, 3]]."""
    code = ColorCode(torch.tensor([[7.0, -8.0]]), torch.tensor([[[4.0, 2.0], [2.0, 10.0]]]))
    expected = torch.tensor([[7.0, -8.0, math.log(2), 1.0, math.log(3)]])
    torch.testing.assert_close(to_vector(code), expected, rtol=0, atol=1e-5)


def test_codes_and_vectors_are_inverse():
    code = color_code(colors(count=8))
    for part, again in zip(code, from_vector(to_vector(code)), strict=True):
        torch.testing.assert_close(again, part, rtol=1e-5, atol=1e-4)
    vector = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_vector(from_vector(vector)), vector, rtol=0, atol=1e-3)
