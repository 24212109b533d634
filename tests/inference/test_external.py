"""External networks in srcolor-predict: a color network of another render size, and --clean-run in every mode."""

import functools
import re

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from test_nets import wake

from srcolor import hardware, runs
from srcolor.errors import UserError
from srcolor.inference import colorizer, predict, tiles
from srcolor.inference.modes import base
from srcolor.nets import Net
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.unet_rgb import UNetRGB
from srcolor.runs.spandrel_nets import SpandrelColor

PHOTO = data.astronaut()
SMALL = Image.fromarray(PHOTO[100:133, 200:247])  # 47 wide, 33 high
OLD = np.asarray(SMALL.convert("L").convert("RGB"))


def luma(pixels):
    return pixels.astype(float) @ (0.299, 0.587, 0.114)


@pytest.fixture
def seen(monkeypatch):
    """The sizes at which color networks run; they predict no color, at once."""
    sizes = []

    def run(net, gray, size):
        sizes.append((tuple(gray.shape[2:]), size))
        return gray.expand(-1, 3, -1, -1)

    monkeypatch.setattr(SpandrelColor, "render", run)
    return sizes


# -- color ------------------------------------------------------------------------------------------------------


def test_an_external_network_colorizes_and_keeps_luma_and_size(ddcolor, tmp_path):
    SMALL.convert("L").save(tmp_path / "old.png")
    arguments = [str(tmp_path / "old.png"), "--mode", "colorize", "--run", ddcolor, "--render-size", "32"]
    assert predict.main(arguments) == 0
    result = np.asarray(Image.open(tmp_path / "old_colorize.png"))
    assert result.shape == OLD.shape
    assert np.abs(luma(result) - luma(OLD)).max() <= 1
    assert np.ptp(result.astype(int), axis=2).mean() > 10  # there is color


def test_the_render_size_is_that_of_the_network_by_default(ddcolor, color, seen, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(base, "load", functools.cache(base.load))
    Image.fromarray(PHOTO[:60, :90]).resize((900, 600)).save(tmp_path / "a.png")
    SMALL.save(tmp_path / "b.png")
    assert predict.main([str(tmp_path), "-m", "colorize", "--run", ddcolor]) == 0
    assert seen == [((512, 768), 512), ((33, 47), 512)]  # the network itself enlarges the small one
    assert predict.main([str(tmp_path / "b.png"), "-m", "colorize", "--run", ddcolor, "--sheet"]) == 0
    assert "sheet, from left to right: colorized at 512\n" in capsys.readouterr().err
    assert predict.main([str(tmp_path / "b.png"), "-m", "colorize", "--run", color, "--sheet", "--overwrite"]) == 0
    assert "colorized at 64\n" in capsys.readouterr().err
    options = ["--render-size", "256", "-o", str(tmp_path / "out")]
    assert predict.main([str(tmp_path / "a.png"), "-m", "colorize", "--run", ddcolor, *options]) == 0
    assert seen[-1] == ((256, 384), 256)


def test_every_network_has_a_render_size():
    assert (Net.render_size, UNetRGB.render_size, SpandrelColor.render_size) == (64, 64, 512)
    inputs = []
    net = wake(UNetRGB())
    net.register_forward_pre_hook(lambda module, args: inputs.append(tuple(args[0].shape)))
    colorizer.colorize(net, PHOTO[:256, :384])
    colorizer.colorize(net, PHOTO[:32, :48])  # is not enlarged
    assert inputs == [(1, 1, 64, 96), (1, 1, 32, 48)]


def test_without_memory_a_smaller_render_size_is_suggested():
    net = wake(UNetRGB())
    net.register_forward_pre_hook(lambda module, inputs: torch.empty(10**16))  # raises PyTorch's own message
    with pytest.raises(UserError, match=r"not enough memory to colorize at a render size of 512; pass a smaller one"):
        colorizer.colorize(net, PHOTO[:64, :64], render_size=512)


# -- cleaning ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["upscale", "colorize", "restore"])
@pytest.mark.parametrize("name", ["nafnet", "dncnn"])
def test_each_mode_cleans_first(name, mode, restorers, bicubic, color, tmp_path):
    SMALL.save(tmp_path / "a.png")
    networks = {"upscale": ["--run", bicubic], "colorize": ["--run", color]}
    networks["restore"] = ["--run", color, "--sr-run", bicubic]
    arguments = [str(tmp_path / "a.png"), "-m", mode, *networks[mode], "--clean-run", restorers[name], "--tile", "64"]
    assert predict.main(arguments) == 0
    expected = cleaned = tiles.enlarge(predict.load(restorers[name], "clean"), np.asarray(SMALL), tile=64)
    assert cleaned.shape == (33, 47, 3)
    assert (cleaned != np.asarray(SMALL)).any()
    if mode != "upscale":
        expected = colorizer.colorize(predict.load(color, "colorize"), expected)
    if mode != "colorize":
        expected = tiles.enlarge(Bicubic(), expected, tile=64)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / f"a_{mode}.png")), expected)


def test_a_sheet_is_cleaned_first(restorers, color, tmp_path):
    SMALL.save(tmp_path / "a.png")
    arguments = [str(tmp_path / "a.png"), "-m", "colorize", "--run", color, "--sheet", "--render-size", "16,32"]
    assert predict.main([*arguments, "--clean-run", restorers["nafnet"]]) == 0
    cleaned = tiles.enlarge(predict.load(restorers["nafnet"], "clean"), np.asarray(SMALL))
    sheet = np.asarray(Image.open(tmp_path / "a_sheet.png"))
    expected = colorizer.colorize(predict.load(color, "colorize"), cleaned, render_size=32)
    np.testing.assert_allclose(sheet[:, 47:].astype(int), expected.astype(int), rtol=0, atol=1)


def test_a_gray_network_keeps_the_chroma(restorers):
    cleaned = tiles.enlarge(predict.load(restorers["dncnn"], "clean"), np.asarray(SMALL)).astype(int)
    difference = cleaned - np.asarray(SMALL)
    inside = ((cleaned > 0) & (cleaned < 255)).all(2)
    assert np.abs(difference).max() > 2
    assert np.ptp(difference, axis=2)[inside].max() <= 1  # the same in all channels


@pytest.mark.parametrize(("name", "padding"), [("scunet", 64), ("nafnet", 32)])
def test_tiles_are_padded_by_64_pixels_where_spandrel_discourages_tiles(name, padding, restorers):
    net = runs.load_net(restorers[name])
    widths = []

    def record(x):
        widths.append(x.shape[-1])
        return x

    net._call = record
    pixels = PHOTO[:40, :500]
    np.testing.assert_array_equal(tiles.enlarge(net, pixels, tile=100), pixels)
    assert widths == [100 + padding, 100 + 2 * padding, 100 + 2 * padding, 100 + 2 * padding, 100 + padding]


def test_external_networks_never_run_in_bfloat16(restorers, elsewhere, monkeypatch, tmp_path):
    SMALL.save(tmp_path / "a.png")
    results = []
    for precision in ("32-true", "bf16-mixed"):
        machine = hardware.Hardware("cpu", precision, True)
        monkeypatch.setattr(hardware, "choose", lambda machine=machine: machine)
        arguments = [str(tmp_path / "a.png"), "--run", elsewhere, "--clean-run", restorers["nafnet"]]
        assert predict.main([*arguments, "-o", str(tmp_path / precision)]) == 0
        results.append(np.asarray(Image.open(tmp_path / precision / "a_upscale.png")))
    np.testing.assert_array_equal(*results)


# -- errors -----------------------------------------------------------------------------------------------------

BAD = {
    "an enlarging network that should clean": (
        ["--clean-run", "elsewhere"],
        r"--clean-run spandrel:.*compact\.pth: SpandrelSR does not match this option: expected a restoration network",
    ),
    "a color network that should clean": (
        ["--clean-run", "color"],
        r"--clean-run .*: UNetRGB does not match this option: expected a restoration network for RGB or the luma",
    ),
    "a restoration network that should enlarge": (
        ["--run", "nafnet"],
        r"SpandrelClean does not match this mode: expected a super-resolution .* pass it as --clean-run\.",
    ),
    "a gray restoration network that should enlarge": (
        ["--run", "dncnn"],
        r"LumaSR does not match this mode: expected a super-resolution network.* pass it as --clean-run\.",
    ),
    "a restoration network that should colorize": (
        ["-m", "colorize", "--run", "nafnet"],
        r"SpandrelClean does not match this mode: expected a network from gray.* pass it as --clean-run\.",
    ),
    "no file": (["--clean-run", "spandrel:nowhere.pth"], r"spandrel:nowhere\.pth: no such file"),
    "a dial": (["--run", "elsewhere", "--sharpness", "0.5"], r"sharpness=0\.5: spandrel:.* is an external network"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_network_of_another_kind_is_refused_in_one_line(name, restorers, elsewhere, color, tmp_path, capsys):
    SMALL.save(tmp_path / "a.png")
    arguments, message = BAD[name]
    named = {"elsewhere": elsewhere, "color": color, **restorers}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert predict.main(["a.png", *(named.get(argument, argument) for argument in arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


def test_the_help_names_the_options(capsys):
    with pytest.raises(SystemExit):
        predict.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "restoration network that cleans each image first" in text
    assert "default: the network's; 64, DDColor 512" in text
    assert "neutral (10,13), that of the average training portrait; warm (12,21) or cool (8,5), one standard" in text
