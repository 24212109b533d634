"""Networks of segmentation: what they are at the start, what is frozen, and the baselines."""

import copy

import numpy as np
import pytest
import torch
from skimage.filters import threshold_otsu
from test_nets import wake
from torch.nn import functional as F

from srcolor import images
from srcolor.errors import UserError
from srcolor.images import Pair
from srcolor.nets.class_floors import Background, Otsu, floors, otsu
from srcolor.nets.guided_sr import GuidedSR
from srcolor.nets.residual import Residual
from srcolor.nets.unet_segment import UNetSegment
from srcolor.nets.up_logits import UpLogits


def random_images(*size):
    return torch.rand(*size, generator=torch.Generator().manual_seed(0))


def test_an_untrained_network_finds_all_classes_equally_likely():
    out = UNetSegment(channels=8, classes=3)(random_images(1, 3, 16, 24))
    assert torch.equal(out, torch.zeros(1, 3, 16, 24))


def test_the_head_predicts_each_pixel_of_a_block():
    net = wake(UNetSegment(channels=8)).double()
    blocks = net(random_images(1, 3, 16, 16).double()).detach().unfold(2, 2, 2).unfold(3, 2, 2)
    assert (blocks.flatten(4).std(-1) > 1e-6).all()


def test_the_default_network_is_small():
    assert sum(parameter.numel() for parameter in UNetSegment().parameters()) == 326_024


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("size", [(32, 48), (33, 50)])
def test_untrained_guided_sr_equals_up_logits_of_the_large_image(scale, size):
    net = wake(UNetSegment(channels=8))
    x = random_images(2, 3, *size)
    guided, up = GuidedSR(copy.deepcopy(net), scale), UpLogits(net, scale, shrink=True)
    with torch.no_grad():
        torch.testing.assert_close(guided(x), up(x), rtol=0, atol=1e-5)


def test_up_logits_of_the_small_image_and_of_the_large_one_agree():
    net, x = wake(UNetSegment(channels=8)), random_images(1, 3, 32, 32)
    small = images.block_mean(x, 2)
    with torch.no_grad():
        torch.testing.assert_close(UpLogits(net, 2)(small), UpLogits(net, 2, shrink=True)(x), rtol=0, atol=1e-5)
        torch.testing.assert_close(UpLogits(net, 2)(small), images.bicubic_up(net(small), 2))


def test_guided_sr_sees_the_large_image_beyond_its_block_means():
    """Two images of the same block means."""
    net = wake(GuidedSR(UNetSegment(channels=8), scale=2, channels=8, blocks=1))
    x = random_images(1, 3, 16, 16) / 2 + 0.25
    checkered = x + 0.2 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(8, 8)
    with torch.no_grad():
        assert (net(x) - net(checkered)).abs().max() > 0.01


def test_the_inner_network_is_frozen_in_evaluation_mode_and_saved():
    inner = wake(UNetSegment(channels=8))
    weights = copy.deepcopy(inner.state_dict())
    net = GuidedSR(inner, scale=2, channels=8, blocks=1).train()
    assert net.training
    assert not any(module.training for module in net.net.modules())
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(3):
        net(random_images(1, 3, 16, 16)).square().mean().backward()
        optimizer.step()
    saved = net.state_dict()
    assert all(torch.equal(saved[f"net.{key}"], value) for key, value in weights.items())
    assert not torch.equal(saved["tail.bias"], torch.zeros(8))


@pytest.mark.parametrize("net", [UNetSegment(8), UpLogits(UNetSegment(8), 2, True), GuidedSR(UNetSegment(8), 2)])
def test_training_in_bfloat16_agrees_with_float32(net):
    net, x = wake(net), random_images(2, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = net(x).float()
    with torch.no_grad():
        full = net(x)
    assert (mixed - full).abs().max() < 0.05 * full.abs().max()


@pytest.mark.parametrize("kind", [GuidedSR, UpLogits])
def test_a_network_that_returns_an_image_is_refused(kind):
    with pytest.raises(UserError, match="Residual returns an image, expected the logits of classes: choose net="):
        kind(Residual(8, 1), scale=2)


# -- baselines -----------------------------------------------------------------------------------------------------


def pairs_of(gray, mask):
    """Two batches of one pair: gray levels as RGB, and a mask of class 1."""
    rgb = gray[None, None].expand(2, 3, -1, -1)
    target = torch.stack([1 - mask, mask])[None].expand(2, -1, -1, -1)
    return [Pair(rgb[i : i + 1], target[i : i + 1], torch.tensor([i])) for i in range(2)]


@pytest.mark.parametrize("dark", [True, False])
def test_otsu_finds_the_threshold_and_the_side_of_the_cells(dark):
    random = np.random.default_rng(0)
    mask = torch.tensor(random.random((32, 32)) < 0.3).float()
    noise = torch.tensor(random.normal(0, 0.03, (32, 32))).float()
    gray = ((0.3 + 0.4 * (1 - mask if dark else mask)) + noise).clamp(0, 1)
    net = Otsu()
    net.fit(pairs_of(gray, mask))
    assert torch.equal(net(pairs_of(gray, mask)[0].input).argmax(1)[0], mask.long())
    assert bool(net.dark) == dark


@pytest.mark.parametrize("seed", range(4))
def test_the_threshold_is_that_of_skimage(seed):
    random = np.random.default_rng(seed)
    values = np.concatenate([random.normal(70, 20, 500), random.normal(160, 25, 300)]).clip(0, 255).round().astype(int)
    counts = torch.tensor(np.bincount(values, minlength=256))
    assert otsu(counts) == threshold_otsu(hist=(counts.numpy(), np.arange(256))) + 1


def test_the_floors_are_all_background_and_for_two_classes_otsu():
    assert list(floors(2)) == ["all_background", "otsu"]
    assert list(floors(3)) == ["all_background"]


def test_the_floors_enlarge_their_classes():
    x = random_images(2, 3, 8, 12)
    small, large = Otsu()(x), Otsu(scale=2)(x)
    assert torch.equal(large, F.interpolate(small, scale_factor=2.0, mode="nearest"))
    logits = Background(3, scale=2)(x)
    assert logits.shape == (2, 3, 16, 24)
    assert (logits.argmax(1) == 0).all()
