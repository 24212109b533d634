import numpy as np
import pytest
import torch

from srcolor.data.pairs_segment import IGNORED, segment
from srcolor.errors import UserError


def batch_of(numbers):
    """Images (2, 4, H, W) of random colors with these class numbers."""
    numbers = torch.as_tensor(numbers).float().expand(2, 1, -1, -1) / 255
    return torch.cat([torch.rand(2, 3, *numbers.shape[2:], generator=torch.Generator().manual_seed(0)), numbers], 1)


def test_the_target_is_the_share_of_each_class_in_a_block():
    numbers = [[0, 1, 2, 2], [1, 1, 2, IGNORED]]
    pair = segment(batch_of(numbers), torch.arange(2), shrink=2, classes=3)
    assert pair.target[1, :, 0].T.tolist() == [[0.25, 0.75, 0.0], [0.0, 0.0, 0.75]]
    assert pair.target.sum(1)[0].tolist() == [[1.0, 0.75]]  # the share that counts
    assert pair.row.tolist() == [0, 1]


def test_the_input_is_the_mean_of_each_block():
    images = batch_of(np.zeros((8, 8)))
    pair = segment(images, torch.arange(2), shrink=4, classes=2)
    expected = images[:, :3].reshape(2, 3, 2, 4, 2, 4).mean((3, 5))
    torch.testing.assert_close(pair.input, expected)


def test_without_shrinking_the_target_is_one_hot():
    numbers = torch.tensor([[0, 1], [2, 1]])
    whole = segment(batch_of(numbers), torch.arange(2), shrink=1, classes=3)
    torch.testing.assert_close(whole.target.argmax(1)[0], numbers)


def test_every_class_number_survives_the_division_by_255():
    numbers = torch.arange(255).reshape(15, 17)
    pair = segment(batch_of(numbers), torch.arange(2), shrink=1, classes=255)
    assert torch.equal(pair.target.argmax(1)[0], numbers)


def test_images_without_masks_are_an_error():
    with pytest.raises(UserError, match=r"the data set has no masks: .* data=masks data\.root=<folder>"):
        segment(torch.rand(1, 3, 8, 8), torch.arange(1), shrink=1, classes=2)
