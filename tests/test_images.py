import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from srcolor import images
from srcolor.data import pairs
from srcolor.errors import UserError


def test_block_mean_is_the_mean_of_each_block_worked_out_by_hand():
    image = torch.tensor([[[[0.0, 0.2, 1.0, 1.0], [0.4, 0.6, 1.0, 0.0]]]])
    torch.testing.assert_close(images.block_mean(image, 2), torch.tensor([[[[0.3, 0.75]]]]))


@pytest.mark.parametrize("shrink", [images.block_mean, images.bicubic_down])
def test_sides_that_the_scale_does_not_divide_are_an_error_that_says_what_to_do(shrink):
    with pytest.raises(UserError, match=r"cannot shrink 9x8 images by 2.*Crop them to 8x8"):
        shrink(torch.rand(1, 3, 8, 9), 2)


def test_bicubic_down_is_pillows_within_one_level():
    photo = data.astronaut()[:128, :128]
    ours = images.to_uint8(images.bicubic_down(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255, 2))
    pillows = np.asarray(Image.fromarray(photo).resize((64, 64), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - pillows).max() <= 1


def test_bicubic_up_is_pillows_within_one_level():
    photo = data.astronaut()[:64, :64]
    ours = images.to_uint8(images.bicubic_up(torch.from_numpy(photo.copy()).permute(2, 0, 1)[None] / 255, 2))
    pillows = np.asarray(Image.fromarray(photo).resize((128, 128), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(ours[0].permute(1, 2, 0).numpy().astype(int) - pillows).max() <= 1


@pytest.mark.parametrize(
    ("make", "shrink"), [(pairs.block_mean, images.block_mean), (pairs.bicubic, images.bicubic_down)]
)
def test_pairs_keep_the_image_as_target_and_leave_it_alone(make, shrink):
    full = torch.rand(2, 3, 8, 8)
    before = full.clone()
    pair = make(full, torch.tensor([5, 6]), scale=2)
    assert torch.equal(pair.target, before)
    assert torch.equal(full, before)
    assert torch.equal(pair.input, shrink(before, 2))
    assert pair.index.tolist() == [5, 6]
