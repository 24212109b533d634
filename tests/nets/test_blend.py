"""Blended and sharpened outputs."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_nets import wake

from srcolor.errors import UserError
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.blend import Blend
from srcolor.nets.residual import Residual
from srcolor.nets.unet import UNet
from srcolor.nets.unsharp import Unsharp


def test_the_ends_of_a_blend_are_its_networks_and_its_middle_is_their_mean():
    faithful, sharp = wake(Residual(channels=4, blocks=1)), wake(Residual(channels=8, blocks=1))
    x = torch.rand(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))
    ends = [Blend(faithful, sharp, sharpness)(x) for sharpness in (0, 1)]
    torch.testing.assert_close(ends, [faithful(x), sharp(x)], rtol=0, atol=0)
    torch.testing.assert_close(Blend(faithful, sharp, 0.5)(x), (ends[0] + ends[1]) / 2, rtol=0, atol=1e-6)
    assert Blend(faithful, sharp).receptive_field == sharp.receptive_field


@pytest.mark.parametrize("sharpness", [-0.1, 1.1])
def test_the_share_of_a_blend_is_checked(sharpness):
    with pytest.raises(UserError, match="sharpness="):
        Blend(Bicubic(), Bicubic(), sharpness)


def test_networks_of_different_kinds_are_not_blended():
    with pytest.raises(UserError, match="Bicubic and UNet cannot be blended"):
        Blend(Bicubic(), UNet(channels=8))


def test_unsharp_masking_is_that_of_scipy():
    x = torch.rand(1, 3, 16, 12, generator=torch.Generator().manual_seed(1))
    image = Bicubic()(x)
    expected = image.double().numpy()
    blurred = np.stack([gaussian_filter(plane, 1.0, mode="nearest", truncate=3) for plane in expected[0]])
    expected = expected[0] + 0.7 * (expected[0] - blurred)
    np.testing.assert_allclose(Unsharp(Bicubic(), 0.7)(x)[0].numpy(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(Unsharp(Bicubic(), 0)(x), image, rtol=0, atol=0)
