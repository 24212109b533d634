"""Augmentation against hand values and torchvision."""

import itertools

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as tv

from srcolor.data import augment, draws


def table(**columns):
    draw = torch.full((1, draws.COLUMNS), 0.9)
    for name, values in columns.items():
        draw[0, getattr(draws, name)] = torch.tensor(values)
    return draw


def test_horizontal_flip_mirrors_left_and_right_only():
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    np.testing.assert_array_equal(augment.flip(image, [0.1, 0.1, 0.1], "horizontal"), image[:, ::-1])
    for uniforms, mode in (([0.9, 0.1, 0.1], "horizontal"), ([0.1, 0.1, 0.1], "none")):
        np.testing.assert_array_equal(augment.flip(image, uniforms, mode), image)


def test_dihedral_flips_are_the_eight_symmetries_of_the_square():
    image = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)
    choices = itertools.product([0.1, 0.9], repeat=3)
    assert len({augment.flip(image, uniforms, "dihedral").tobytes() for uniforms in choices}) == 8


def test_zoom_takes_a_smaller_window():
    across, down = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="xy")
    ramps = torch.stack([across, down])[None]
    share, top, left = 0.6, 0.25, 0.5  # of the side; of the room above and below; of that at the sides
    zoomed = augment.zoom(ramps, table(ZOOM=[(1 - share) / 0.5, top, left]), 0.5)
    places = (torch.arange(32) + 0.5) * share - 0.5
    room = 32 * (1 - share)
    torch.testing.assert_close(zoomed[0, 0], (places + room * left).expand(32, 32), atol=1e-4, rtol=0)
    torch.testing.assert_close(zoomed[0, 1], (places + room * top)[:, None].expand(32, 32), atol=1e-4, rtol=0)
    assert torch.equal(augment.zoom(ramps, table(), 1), ramps)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_jitter_is_torchvisions_color_jitter_at_the_same_factors(order):
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    uniform = [0.05, 0.9, 0.7, 0.2]
    ranks = [order.index(step) / 4 for step in range(4)]
    ours = augment.jitter(image, table(JITTER=uniform, ORDER=ranks), strength=0.3)
    shift = [(u * 2 - 1) * 0.3 for u in uniform]
    steps = {
        0: lambda x: tv.adjust_brightness(x, 1 + shift[0]),
        1: lambda x: tv.adjust_contrast(x, 1 + shift[1]),
        2: lambda x: tv.adjust_saturation(x, 1 + shift[2]),
        3: lambda x: tv.adjust_hue(x, shift[3]),
    }
    theirs = image
    for step in order:
        theirs = steps[step](theirs)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_jitter_gives_each_image_its_own_factors_and_order():
    batch = torch.rand(4, 3, 8, 8)
    draw = torch.rand(4, draws.COLUMNS, generator=torch.Generator().manual_seed(0))
    whole = augment.jitter(batch, draw, 0.2)
    for i in range(4):
        torch.testing.assert_close(augment.jitter(batch[i : i + 1], draw[i : i + 1], 0.2), whole[i : i + 1])
