"""Critics: size, view, encoding, and what they refuse."""

import numpy as np
import pytest
import torch
from torch import nn

from srcolor import images
from srcolor.errors import UserError
from srcolor.images import Pair, rgb_to_lab
from srcolor.nets.haar_critic import HaarCritic, haar
from srcolor.nets.patch_critic import PatchCritic

CRITICS = [pytest.param(HaarCritic(width=4), id="haar"), pytest.param(PatchCritic(width=4), id="patch")]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_critics_of_the_default_size_have_a_third_of_a_million_parameters():
    assert parameters(HaarCritic()) == 316_257
    assert parameters(PatchCritic()) == 313_665
    assert not any("Norm" in type(module).__name__ for module in HaarCritic().modules())


@pytest.mark.parametrize("critic", CRITICS)
def test_a_logit_depends_on_the_declared_area_and_on_no_other(critic):
    critic = critic.double()
    encoded = torch.rand(1, critic.layers[0].in_channels, 64, 64, dtype=torch.float64, requires_grad=True)
    logits = critic(encoded)
    assert logits.shape == (1, 1, 16, 16)
    (gradient,) = torch.autograd.grad(logits[0, 0, 8, 8], encoded)
    rows, columns = gradient[0].abs().sum(0).nonzero().unbind(1)
    assert int(rows.max() - rows.min()) + 1 == int(columns.max() - columns.min()) + 1 == critic.view
    critic.float()


@pytest.mark.parametrize("critic", CRITICS)
def test_gray_is_judged_as_the_same_image_in_rgb(critic):
    gray = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(critic(critic.encode(gray)), critic(critic.encode(gray.expand(-1, 3, -1, -1))))


@pytest.mark.parametrize(
    ("critic", "shape", "message"),
    [
        (
            HaarCritic(4),
            (1, 3, 54, 64),
            r"looks at 56x56 pixels, but the targets are 64x54: .* larger size=",
        ),
        (HaarCritic(4), (1, 3, 65, 64), "sides of at least 56 that are multiples of 2"),
        (PatchCritic(4), (1, 1, 27, 64), r"PatchCritic looks at 28x28 pixels, but the targets are 64x27"),
        (PatchCritic(4), (1, 2, 32, 32), "the targets have 2 channels"),
    ],
)
def test_images_that_a_critic_cannot_judge_are_refused(critic, shape, message):
    with pytest.raises(UserError, match=message):
        critic.encode(torch.rand(shape))


def test_the_haar_transform_is_orthonormal_and_its_means_are_the_block_means():
    image = torch.rand(2, 3, 8, 6, dtype=torch.float64)
    detail, mean = haar(image)
    assert detail.shape == (2, 9, 4, 3)
    torch.testing.assert_close(mean, images.block_mean(image, 2))
    energy = detail.square().sum() + (2 * mean).square().sum()
    torch.testing.assert_close(energy, image.square().sum())


def test_an_image_and_its_blurred_version_differ_in_detail_alone():
    sharp = torch.rand(1, 3, 64, 64)
    blurred = images.consistent(images.bicubic_up(images.block_mean(sharp, 2), 2), images.block_mean(sharp, 2))
    one, other = (HaarCritic(4).encode(image) for image in (sharp, blurred))
    torch.testing.assert_close(one[:, 9:], other[:, 9:], rtol=0, atol=1e-6)
    assert one[:, :9].std() > 2 * other[:, :9].std()


def test_detail_is_divided_by_its_deviation_in_the_training_images():
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(4, 3, 64, 64, generator=generator) * scale for scale in (0.1, 1.0)]
    critic = HaarCritic(4)
    critic.fit(Pair(images.block_mean(batch, 2), batch, torch.arange(4)) for batch in batches)
    a, b, c, d = (torch.cat(batches).double().numpy()[..., i::2, j::2] for i in (0, 1) for j in (0, 1))
    bands = np.concatenate([a - b + c - d, a + b - c - d, a - b - c + d], 1) / 2
    np.testing.assert_allclose(critic.std.flatten().numpy(), np.sqrt((bands**2).mean((0, 2, 3))), rtol=1e-5)
    encoded = critic.encode(torch.cat(batches))
    torch.testing.assert_close(encoded[:, :9].square().mean((0, 2, 3)), torch.ones(9))
    assert "std" in critic.state_dict()


def test_flat_training_images_give_a_finite_encoding():
    critic = HaarCritic(4)
    critic.fit([Pair(torch.ones(1, 3, 32, 32), torch.ones(1, 3, 64, 64), torch.arange(1))])
    assert critic.encode(torch.rand(1, 3, 64, 64)).isfinite().all()


def test_lab_is_scaled_to_about_one():
    rgb = torch.rand(1, 3, 32, 32)
    expected = rgb_to_lab(rgb) / torch.tensor([50.0, 20.0, 20.0]).reshape(3, 1, 1)
    expected[:, 0] -= 1
    torch.testing.assert_close(PatchCritic(4, lab=True).encode(rgb), expected)
    assert torch.equal(PatchCritic(4).encode(rgb), rgb)


def test_a_reset_critic_has_the_weights_of_a_new_one_and_always_the_same():
    torch.manual_seed(0)
    critic, other, new = (HaarCritic(width=16) for _ in range(3))
    critic.reset(seed=1)
    other.reset(seed=1)
    for one, two, three in zip(critic.parameters(), other.parameters(), new.parameters(), strict=True):
        assert torch.equal(one, two)
        assert not torch.equal(one, three)
        if one.ndim == 4:
            assert one.std().item() == pytest.approx(three.std().item(), rel=0.1)
