"""Networks on images of any size: tiles against the untiled image, memory, and color at a different size."""

import copy
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import data
from test_nets import LOCAL, wake

from srcolor import images, runs
from srcolor.errors import UserError
from srcolor.inference import colorizer, tiles
from srcolor.inference.torch_engine import TorchEngine
from srcolor.nets.chroma_table import ChromaTable
from srcolor.nets.residual import Residual
from srcolor.nets.unet_rgb import UNetRGB

PHOTO = data.astronaut()


@pytest.mark.parametrize("net", [n for n in LOCAL if n.values[0].inputs != 1 and not n.values[0].logits])
def test_tiles_match_the_untiled_image(net):
    pixels = PHOTO[100:201, 200:333]
    tiled, whole = (tiles.enlarge(net, pixels, tile=side).astype(int) for side in (40, 4096))
    assert tiled.shape == (101 * net.scale, 133 * net.scale, 3)
    assert np.abs(tiled - whole).max() <= 1
    assert whole.std() > 3


@pytest.mark.parametrize(("channels", "blocks"), [(24, 6), (48, 8), (64, 16)])
def test_residual_tiles_match_the_untiled_image_at_three_widths(channels, blocks):
    net = wake(Residual(channels, blocks))
    pixels = PHOTO[100:165, 200:290]
    tiled, whole = (tiles.enlarge(net, pixels, tile=side).astype(int) for side in (32, 4096))
    assert np.abs(tiled - whole).max() <= 1


RESIDUAL = wake(Residual(channels=4, blocks=1))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(height=st.integers(1, 200), width=st.integers(1, 200), tile=st.integers(1, 220), is_16bit=st.booleans())
def test_images_of_any_size(height, width, tile, is_16bit):
    pixels = PHOTO[:height, :width].astype(np.uint16) * 257 if is_16bit else PHOTO[:height, :width]
    tiled = tiles.enlarge(RESIDUAL, pixels, tile=max(tile, 16))
    assert tiled.shape == (2 * height, 2 * width, 3)
    assert tiled.dtype == pixels.dtype
    whole = tiles.enlarge(RESIDUAL, pixels, tile=4096)
    assert np.abs(tiled.astype(int) - whole).max() <= (257 if is_16bit else 1)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (101, 133), (30, 200)])
@pytest.mark.parametrize("net", [n for n in LOCAL if n.values[0].logits and n.values[0].scale == 1])
def test_the_classes_of_tiles_are_those_of_the_untiled_image(net, height, width):
    pixels = PHOTO[200 : 200 + height, 200 : 200 + width]
    tiled, whole = (tiles.segment(net, pixels, tile=side) for side in (16, 4096))
    assert tiled.dtype == np.uint8
    with torch.inference_mode():
        logits = net(torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None])[0].numpy()
    second, first = np.sort(logits, axis=0)[-2:]
    clear = first - second > 1e-4 * np.ptp(logits)  # more than float rounding
    assert clear.mean() > 0.5  # where ReLU is zero, the logits of an untrained network can be equal
    for classes in (tiled, whole):
        np.testing.assert_array_equal(classes[clear], logits.argmax(0)[clear])
    if min(height, width) > 1:
        assert len(np.unique(whole)) > 1


def test_tiles_of_a_large_receptive_field_are_larger_than_their_padding():
    net = Residual(channels=8, blocks=1)
    net.receptive_field = 401
    assert tiles.tile_size(net) == 800


def test_smaller_tiles_are_tried_if_memory_runs_out():
    net = copy.deepcopy(RESIDUAL)
    shapes = []

    def refuse(module, inputs):
        shapes.append(inputs[0].shape[-2:])
        if inputs[0].shape[-2] * inputs[0].shape[-1] > 60 * 60:
            torch.empty(10**16)  # raises PyTorch's own message

    net.register_forward_pre_hook(refuse)
    pixels = PHOTO[:200, :150]
    tiled, whole = tiles.enlarge(net, pixels, tile=128), tiles.enlarge(RESIDUAL, pixels, tile=4096)
    assert np.abs(tiled.astype(int) - whole).max() <= 1
    assert min(side for shape in shapes for side in shape) <= 64
    net.register_forward_pre_hook(lambda module, inputs: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(UserError, match=r"not enough memory for 32x32 tiles"):
        tiles.enlarge(net, pixels, tile=128)


@pytest.mark.parametrize(("free", "side"), [(8e9, 256), (5e7, 200), (0, 32)])
def test_tile_size_follows_free_memory(free, side, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    net = Residual(channels=8, blocks=1)  # its widest layer has 12 channels, three for each of four pixels
    assert tiles.tile_size(net) == side
    if free > 0 and side < 256:
        assert (side + net.receptive_field - 1) ** 2 * 4 * 12 * tiles.MAPS == pytest.approx(free / 3, rel=0.01)
    widths = []
    net.register_forward_pre_hook(lambda module, inputs: widths.append(inputs[0].shape[-1]))
    tiles.enlarge(net, np.zeros((4, 600, 3), np.uint8))
    assert widths[0] == min(600, side + net.receptive_field // 2)


def test_bfloat16_is_close_and_for_8_bits_only():
    engines = [TorchEngine(runs.load_net("srcolor/sr_x2_small"), bfloat16=on) for on in (False, True)]
    pixels = PHOTO[:160, 100:300]
    plain, fast = (tiles.enlarge(engine, pixels).astype(int) for engine in engines)
    assert (plain != fast).any()
    assert (np.abs(plain - fast) <= 1).mean() >= 0.999
    is_16bit = pixels.astype(np.uint16) * 257
    np.testing.assert_array_equal(*(tiles.enlarge(engine, is_16bit, tile=256) for engine in engines))


def test_a_network_with_an_unlimited_receptive_field_is_refused():
    net = ChromaTable(1, scale=2)
    net.receptive_field = None
    with pytest.raises(UserError, match=r"ChromaTable has an unlimited receptive field"):
        tiles.enlarge(net, PHOTO)


@pytest.mark.parametrize("is_16bit", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (64, 64), (256, 384), (131, 77), (30, 200)])
def test_colorizing_keeps_size_and_luma(height, width, is_16bit):
    pixels = PHOTO[:height, :width].astype(np.uint16) * 257 if is_16bit else PHOTO[:height, :width]
    colored = colorizer.colorize(wake(UNetRGB()), pixels, render_size=64)
    assert colored.shape == pixels.shape
    assert colored.dtype == pixels.dtype
    level = np.iinfo(pixels.dtype).max
    luma = [image.astype(float) @ (0.299, 0.587, 0.114) / level for image in (pixels, colored)]
    assert np.abs(luma[0] - luma[1]).max() <= 1 / level
    if min(height, width) > 1:
        assert np.ptp(colored.astype(int), axis=2).max() > 0.02 * level  # there is color


def test_the_input_of_the_colorizer_is_the_block_mean():
    inputs = []
    net = wake(UNetRGB())
    net.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    colorizer.colorize(net, PHOTO[:256, :384], render_size=64)
    whole = torch.from_numpy(PHOTO[:256, :384]).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(inputs[0], images.block_mean(images.luma(whole), 4), rtol=0, atol=1e-6)


def test_saturation_scales_the_chroma():
    gray = colorizer.colorize(wake(UNetRGB()), PHOTO[:64, :64], saturation=0)
    assert np.ptp(gray.astype(int), axis=2).max() <= 1
