"""People's own pictures: tiles against the whole, formats and what files say of themselves, and what goes wrong."""

import copy
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import pyvips
import torch
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data
from test_nets import LOCAL, wake

from srcolor import images, pictures, predict, tiles
from srcolor.errors import UserError
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.chroma_table import ChromaTable
from srcolor.nets.residual import Residual
from srcolor.nets.unet_rgb import UNetRGB

PHOTO = data.astronaut()
COMMAND = str(Path(sys.executable).with_name("srcolor-predict"))

# -- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [net for net in LOCAL if net.values[0].inputs != 1])
def test_tiles_answer_what_the_whole_answers(net):
    pixels = PHOTO[100:201, 200:333]
    tiled, whole = (tiles.enlarge(net, pixels, tile=side).astype(int) for side in (40, 4096))
    assert tiled.shape == (101 * net.scale, 133 * net.scale, 3)
    assert np.abs(tiled - whole).max() <= 1
    assert whole.std() > 3


@pytest.mark.parametrize(("channels", "blocks"), [(24, 6), (48, 8), (64, 16)])
def test_tiles_of_residual_at_three_sizes(channels, blocks):
    net = wake(Residual(channels, blocks))
    pixels = PHOTO[100:165, 200:290]
    tiled, whole = (tiles.enlarge(net, pixels, tile=side).astype(int) for side in (32, 4096))
    assert np.abs(tiled - whole).max() <= 1


RESIDUAL = wake(Residual(channels=4, blocks=1))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(height=st.integers(1, 200), width=st.integers(1, 200), tile=st.integers(1, 220), deep=st.booleans())
def test_pictures_of_any_size(height, width, tile, deep):
    pixels = PHOTO[:height, :width].astype(np.uint16) * 257 if deep else PHOTO[:height, :width]
    answer = tiles.enlarge(RESIDUAL, pixels, tile=max(tile, 16))
    assert answer.shape == (2 * height, 2 * width, 3)
    assert answer.dtype == pixels.dtype
    whole = tiles.enlarge(RESIDUAL, pixels, tile=4096)
    assert np.abs(answer.astype(int) - whole).max() <= (257 if deep else 1)


def test_where_memory_runs_out_smaller_tiles_are_tried():
    net = copy.deepcopy(RESIDUAL)
    seen = []

    def refuse(module, inputs):
        seen.append(inputs[0].shape[-2:])
        if inputs[0].shape[-2] * inputs[0].shape[-1] > 60 * 60:
            torch.empty(10**16)  # PyTorch's own words for it

    net.register_forward_pre_hook(refuse)
    pixels = PHOTO[:200, :150]
    np.testing.assert_array_equal(tiles.enlarge(net, pixels, tile=128), tiles.enlarge(RESIDUAL, pixels, tile=4096))
    assert min(side for shape in seen for side in shape) <= 64
    net.register_forward_pre_hook(lambda module, inputs: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(UserError, match=r"memory does not suffice for tiles of 32x32"):
        tiles.enlarge(net, pixels, tile=128)


@pytest.mark.parametrize(("free", "side"), [(8e9, 256), (5e7, 200), (0, 32)])
def test_tiles_are_as_large_as_the_memory_at_hand_allows(free, side, monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    net = Residual(channels=8, blocks=1)  # its widest layer has 12 channels, three for each of four pixels
    assert tiles.tile_at_hand(net) == side
    if free > 0 and side < 256:
        assert (side + net.receptive_field - 1) ** 2 * 4 * 12 * tiles.MAPS == pytest.approx(free / 3, rel=0.01)
    seen = []
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[-1]))
    tiles.enlarge(net, np.zeros((4, 600, 3), np.uint8))
    assert seen[0] == min(600, side + net.receptive_field // 2)


def test_bfloat16_answers_nearly_the_same_and_is_for_8_bits_only():
    net = predict.load("srcolor/sr_x2_small", "upscale")
    pixels = PHOTO[:160, 100:300]
    plain, fast = (tiles.enlarge(net, pixels, bfloat16=on).astype(int) for on in (False, True))
    assert (plain != fast).any()
    assert (np.abs(plain - fast) <= 1).mean() >= 0.999
    deep = pixels.astype(np.uint16) * 257
    np.testing.assert_array_equal(*(tiles.enlarge(net, deep, bfloat16=on) for on in (False, True)))


def test_a_network_that_sees_everything_at_once_is_not_cut_up():
    net = ChromaTable(1, scale=2)
    net.receptive_field = None
    with pytest.raises(UserError, match=r"ChromaTable looks at the whole picture at once"):
        tiles.enlarge(net, PHOTO)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (64, 64), (256, 384), (131, 77), (30, 200)])
def test_colouring_keeps_size_and_luma(height, width, deep):
    pixels = PHOTO[:height, :width].astype(np.uint16) * 257 if deep else PHOTO[:height, :width]
    coloured = tiles.colorize(wake(UNetRGB()), pixels, render_size=64)
    assert coloured.shape == pixels.shape
    assert coloured.dtype == pixels.dtype
    level = np.iinfo(pixels.dtype).max
    luma = [image.astype(float) @ (0.299, 0.587, 0.114) / level for image in (pixels, coloured)]
    assert np.abs(luma[0] - luma[1]).max() <= 1 / level
    if min(height, width) > 1:
        assert np.ptp(coloured.astype(int), axis=2).max() > 0.02 * level  # there is colour


def test_what_the_colourizer_sees_is_the_block_mean():
    seen = []
    net = wake(UNetRGB())
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tiles.colorize(net, PHOTO[:256, :384], render_size=64)
    whole = torch.from_numpy(PHOTO[:256, :384]).permute(2, 0, 1)[None].float() / 255
    torch.testing.assert_close(seen[0], images.block_mean(images.luma(whole), 4), rtol=0, atol=1e-6)


def test_saturation_scales_the_chroma():
    gray = tiles.colorize(wake(UNetRGB()), PHOTO[:64, :64], saturation=0)
    assert np.ptp(gray.astype(int), axis=2).max() <= 1


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bicubic(tmp_path_factory):
    """A checkpoint of bicubic interpolation, which answers at once."""
    file = tmp_path_factory.mktemp("nets") / "bicubic.ckpt"
    config = {"_target_": "srcolor.nets.bicubic.Bicubic", "scale": 2}
    torch.save({"net_config": config, "state_dict": {}, "trained_on": []}, file)
    return str(file)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    """A checkpoint of an untrained colourizer."""
    file = tmp_path_factory.mktemp("nets") / "colour.ckpt"
    state = {f"net.{key}": value for key, value in wake(UNetRGB()).state_dict().items()}
    torch.save(
        {"net_config": {"_target_": "srcolor.nets.unet_rgb.UNetRGB"}, "state_dict": state, "trained_on": []}, file
    )
    return str(file)


SMALL = Image.fromarray(PHOTO[100:133, 200:247])  # 47 wide, 33 high
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


ALPHA = np.asarray(Image.linear_gradient("L").resize(SMALL.size))
# What a file can be and say, with the formats that can.
PROPERTIES = {
    "suffix": (".jpg", ".png", ".webp", ".tif", ".bmp"),
    "colours": ("colour", "gray", "palette", "cmyk"),
    "bits": (8, 16),
    "alpha": (False, True),
    "turned": (1, 3, 6, 7),  # EXIF's orientation
    "profile": (False, True),
    "mode": ("upscale", "colorize", "restore"),
}
UPRIGHT = {
    1: lambda picture: picture,
    3: lambda picture: picture[::-1, ::-1],
    6: lambda picture: picture.swapaxes(0, 1)[:, ::-1],
    7: lambda picture: picture[::-1, ::-1].swapaxes(0, 1),
}


def can_be(suffix, colours, bits, alpha, turned, profile, mode):
    return (
        (suffix != ".bmp" or (turned == 1 and not profile and not alpha and colours != "cmyk"))
        and (suffix != ".webp" or colours == "colour")
        and (suffix != ".jpg" or (not alpha and colours != "palette"))
        and (bits == 8 or suffix == ".tif" or (suffix == ".png" and colours in ("colour", "gray")))
        and (colours != "palette" or (suffix in (".png", ".bmp") and not alpha))
        and (colours != "cmyk" or (suffix in (".jpg", ".tif") and not alpha))
        and (not profile or colours == "colour")
    )


def pairwise():
    """Few files in which any two properties that can meet do meet."""
    whole = [case for case in itertools.product(*PROPERTIES.values()) if can_be(*case)]
    pairs = {case: set(itertools.combinations(enumerate(case), 2)) for case in whole}
    missing = set().union(*pairs.values())
    while missing:
        best = max(whole, key=lambda case: len(pairs[case] & missing))
        missing -= pairs[best]
        yield best


def make(file, colours, bits, alpha, turned, profile):
    """Writes SMALL as such a file."""
    if file.suffix == ".bmp":
        {"colour": SMALL, "gray": SMALL.convert("L"), "palette": SMALL.quantize(64)}[colours].save(file)
        return
    pixels = np.asarray(SMALL.convert({"gray": "L", "cmyk": "CMYK"}.get(colours, "RGB")))
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if alpha:
        pixels = np.concatenate([pixels, ALPHA[..., None]], 2)
    if bits == 16:
        pixels = pixels.astype(np.uint16) * 257
    interpretation = {"gray": "b-w" if bits == 8 else "grey16", "cmyk": "cmyk"}.get(colours)
    image = pyvips.Image.new_from_array(pixels, interpretation=interpretation or ("srgb" if bits == 8 else "rgb16"))
    if turned > 1:
        image.set_type(pyvips.GValue.gint_type, "orientation", turned)
    if profile:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", PROFILE)
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Make", "a maker")
    image.write_to_file(str(file), **({"palette": True} if colours == "palette" else {}))


@pytest.mark.parametrize(tuple(PROPERTIES), list(pairwise()))
def test_formats_and_what_files_say_of_themselves(
    suffix, colours, bits, alpha, turned, profile, mode, bicubic, colour, tmp_path
):
    file = tmp_path / f"it's{suffix}"
    make(file, colours, bits, alpha, turned, profile)
    # An untrained network's colours are wild: WebP, which halves their resolution, would change the luma.
    runs = {"upscale": ["--run", bicubic], "colorize": ["--run", colour, "--saturation", "0.3"]}
    runs["restore"] = [*runs["colorize"], "--sr-run", bicubic]
    assert predict.main([str(file), "-m", mode, *runs[mode]]) == 0
    written = tmp_path / f"it's_{mode}{suffix}"
    if suffix == ".bmp":  # libvips does not read it
        result = pyvips.Image.new_from_array(np.asarray(Image.open(written)))
        if colours == "gray" and mode == "upscale":
            result = result.copy(interpretation="b-w")
    else:
        result = pyvips.Image.new_from_file(str(written))
    scale = 1 if mode == "colorize" else 2
    seen = result.numpy()
    upright = UPRIGHT[turned]
    assert seen.shape[:2] == tuple(scale * side for side in upright(ALPHA).shape)
    assert result.format == {8: "uchar", 16: "ushort"}[bits]
    assert result.get_typeof("orientation") == 0 or result.get("orientation") == 1
    if suffix in (".jpg", ".png", ".webp"):
        assert result.get("exif-ifd0-Make").startswith("a maker")
    if profile:
        assert result.get("icc-profile-data") == PROFILE
    assert result.hasalpha() == alpha
    gray = colours == "gray" and mode == "upscale"
    assert result.bands == (1 if gray else 3) + alpha
    seen = np.asarray(result.resize(1 / scale, kernel="linear").numpy(), float) / (1 if bits == 8 else 257)
    seen = seen.reshape(*seen.shape[:2], -1)
    if alpha:
        assert np.abs(seen[..., -1] - upright(ALPHA)).mean() < 2
    if gray:
        seen = seen[..., :1].repeat(3, 2)
    expected = upright(np.asarray(SMALL.convert("CMYK" if colours == "cmyk" else "RGB").convert("RGB"))).astype(float)
    seen = seen[..., :3]
    if colours == "gray" or mode != "upscale":
        seen, expected = (picture @ (0.299, 0.587, 0.114) for picture in (seen, expected))
    assert np.abs(seen - expected).mean() < (25 if colours == "cmyk" else 8)  # cmyk by a profile, Pillow's without


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bands", [3, 4])
def test_16_bits_stay(suffix, bands, bicubic, colour, tmp_path):
    ramp = np.linspace(0, 65535, 256 * 4).reshape(4, 256, 1).round().astype(np.uint16).repeat(bands, 2)
    pyvips.Image.new_from_array(ramp, interpretation="rgb16").write_to_file(str(tmp_path / f"deep{suffix}"))
    for mode, run, scale in (("upscale", bicubic, 2), ("colorize", colour, 1)):
        assert predict.main([str(tmp_path / f"deep{suffix}"), "--run", run, "--mode", mode]) == 0
        result = pyvips.Image.new_from_file(str(tmp_path / f"deep_{mode}{suffix}"))
        assert (result.width, result.height, result.bands, result.format) == (256 * scale, 4 * scale, bands, "ushort")
        assert len(np.unique(result.numpy()[..., :3])) > 700
        if bands == 4 and scale == 1:
            np.testing.assert_array_equal(result.numpy()[..., 3], ramp[..., 3])


def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(bicubic, tmp_path, capsys):
    frames = [SMALL, SMALL.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert predict.main([str(tmp_path / "a.webp"), "--run", bicubic]) == 0
    assert "a.webp: the first of 2 frames" in capsys.readouterr().err.replace("\n", "")
    with Image.open(tmp_path / "a_upscale.webp") as result:
        seen = np.asarray(result.convert("RGB").resize(SMALL.size, Image.Resampling.BOX)).astype(float)
    assert np.abs(seen - np.asarray(SMALL)).mean() < 8


def test_restore_colours_and_enlarges(bicubic, colour, tmp_path):
    SMALL.convert("L").save(tmp_path / "old.png")
    assert predict.main([str(tmp_path / "old.png"), "-m", "restore", "--run", colour, "--sr-run", bicubic]) == 0
    result = np.asarray(Image.open(tmp_path / "old_restore.png"))
    whole = tiles.enlarge(
        Bicubic(), tiles.colorize(predict.load(colour, "colorize"), np.asarray(SMALL.convert("L").convert("RGB")))
    )
    np.testing.assert_array_equal(result, whole)


def test_a_colour_photo_is_taken_for_gray_and_that_is_said(colour, tmp_path, capsys):
    SMALL.save(tmp_path / "a.png")
    SMALL.convert("L").convert("RGB").save(tmp_path / "b.png")
    assert predict.main([str(tmp_path), "--run", colour, "-m", "colorize"]) == 0
    told = capsys.readouterr().err.replace("\n", "")
    assert told.count("in colour; taken as if it were gray") == 1
    assert "a.png: in colour" in told


def test_the_readmes_lines(tmp_path, monkeypatch):
    text = (ROOT / "README.md").read_text()
    lines = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "tiles.enlarge" in block)
    monkeypatch.chdir(tmp_path)
    SMALL.save(tmp_path / "photo.jpg")
    told = {}
    exec(lines, told)
    assert told["large"].shape == (66, 94, 3)
    assert told["large"].dtype == np.uint8


def test_sheets_and_comparisons(bicubic, colour, tmp_path):
    SMALL.save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "--run", colour, "-m", "colorize", "--sheet", "--render-size", "16,24,32"]
    assert predict.main(words) == 0
    assert Image.open(tmp_path / "a_sheet.png").size == (3 * 47, 33)
    (tmp_path / "a_upscale.png").write_text("kept")
    assert predict.main([str(tmp_path), "--run", bicubic, "--compare"]) == 0
    assert Image.open(tmp_path / "a_upscale_compare.png").size == (2 * 94, 66)
    assert (tmp_path / "a_upscale.png").read_text() == "kept"
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    assert len(stamps) == 4
    assert predict.main(words) == 0
    assert predict.main([str(tmp_path), "--run", bicubic, "--compare"]) == 0
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == stamps
    assert predict.main([*words, "--overwrite"]) == 0
    assert (tmp_path / "a_sheet.png").stat().st_mtime_ns > stamps[tmp_path / "a_sheet.png"]


# -- folders ---------------------------------------------------------------------------------------------------------


def test_a_folder_with_a_broken_file(bicubic, tmp_path, capsys):
    album = tmp_path / "album"
    (album / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/b.png"):
        SMALL.save(album / name)
    (album / "bad.jpg").write_text("no picture")
    words = [str(album), "--run", bicubic]
    assert predict.main([*words, "-o", str(tmp_path / "out")]) == 1
    assert (
        capsys.readouterr().out
        == f"2 made, 1 failed:\n  {album / 'bad.jpg'}: no picture that can be read, whatever its name says\n"
    )
    assert {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.*")} == {
        "a_upscale.png",
        "sub/b_upscale.png",
    }
    (album / "bad.jpg").unlink()
    assert predict.main(words) == 0
    first = (album / "a_upscale.png").stat().st_mtime_ns
    assert capsys.readouterr().out == "2 made\n"
    assert predict.main(words) == 0  # its results are no pictures of the folder, and there already
    assert capsys.readouterr().out == "0 made, 2 there already (--overwrite makes them anew)\n"
    assert (album / "a_upscale.png").stat().st_mtime_ns == first
    assert predict.main([*words, "--overwrite"]) == 0
    assert (album / "a_upscale.png").stat().st_mtime_ns > first
    assert len(list(album.rglob("*.*"))) == 4
    for _ in range(2):  # nor are results in a folder within it
        assert predict.main([*words, "-o", str(album / "out"), "--compare"]) == 0
    assert len(list(album.rglob("*.*"))) == 8


def test_patterns(bicubic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "c.tif"):
        SMALL.save(tmp_path / name)
    assert predict.main(["*.png", "--run", bicubic]) == 0
    assert {file.name for file in tmp_path.glob("*_upscale*")} == {"a_upscale.png", "b_upscale.png"}


def test_a_killed_process_leaves_no_broken_result(bicubic, tmp_path):
    SMALL.save(tmp_path / "a.png")
    code = "import os, signal, sys; os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL); "
    code += "from srcolor import predict; predict.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, str(tmp_path / "a.png"), "--run", bicubic]
    assert subprocess.run(command, cwd=ROOT, timeout=100).returncode == -signal.SIGKILL
    assert not (tmp_path / "a_upscale.png").exists()
    assert predict.main([str(tmp_path), "--run", bicubic]) == 0
    assert Image.open(tmp_path / "a_upscale.png").size == (94, 66)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("when", ["at its start", "at work"])
def test_a_signal_ends_it_with_one_line(number, when, bicubic, tmp_path):
    SMALL.save(tmp_path / "a.png")
    Image.fromarray(PHOTO).resize((6000, 4000)).save(tmp_path / "b.jpg")  # takes a minute in such tiles
    words = [COMMAND, str(tmp_path), "--run", bicubic, "--tile", "16", "-o", str(tmp_path / "out")]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if when == "at work":
        while not (tmp_path / "out" / "a_upscale.png").exists():
            time.sleep(0.01)
    else:
        time.sleep(0.5)  # PyTorch's import takes longer
    process.send_signal(number)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 128 + number
    assert (out, err) == ("", "stopped; what is complete stays, and the same command makes the rest\n")
    left = sorted(file.name for file in (tmp_path / "out").rglob("*"))
    assert left == (["a_upscale.png"] if when == "at work" else [])


def test_a_full_standard_output_is_an_error(bicubic, tmp_path):
    SMALL.save(tmp_path / "a.png")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, str(tmp_path / "a.png"), "--run", bicubic], stdout=full, stderr=subprocess.PIPE, timeout=100
        )
    assert (done.returncode, done.stderr) == (1, b"error: [Errno 28] No space left on device\n")


def test_nobody_need_read_what_it_says(bicubic, tmp_path):
    SMALL.save(tmp_path / "a.png")
    read, write = os.pipe()
    os.close(read)
    command = [COMMAND, str(tmp_path / "a.png"), "--run", bicubic]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=100)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
    assert Image.open(tmp_path / "a_upscale.png").size == (94, 66)


# -- what goes wrong -------------------------------------------------------------------------------------------------


def cut_short(tmp_path):
    SMALL.resize((400, 300)).save(tmp_path / "x.jpg")
    content = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(content[: len(content) // 2])
    return ["x.jpg"]


def made(name, content=b""):
    def make(tmp_path):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
        return [name]

    return make


def good(*words):
    def make(tmp_path):
        SMALL.save(tmp_path / "x.png")
        return ["x.png", *words]

    return make


def two_of_one_name(tmp_path):
    for folder in ("p", "q"):
        (tmp_path / folder).mkdir()
        SMALL.save(tmp_path / folder / "x.png")
    return ["p/x.png", "q/x.png", "-o", "out"]


def its_own_result(tmp_path):
    SMALL.save(tmp_path / "x.png")
    (tmp_path / "x_upscale.png").symlink_to("x.png")
    return ["x.png", "--overwrite"]


def below_a_file(tmp_path):
    (tmp_path / "out").write_text("a file")
    return good("-o", "out/in")(tmp_path)


def named_result(tmp_path):
    SMALL.save(tmp_path / "x_upscale.png")
    return [*good("--overwrite")(tmp_path), "x_upscale.png"]


def named_by_another_way(tmp_path):
    (tmp_path / "album").mkdir()
    return [*named_result(tmp_path), "-o", "album/.."]


def named_comparison(tmp_path):
    SMALL.save(tmp_path / "x_upscale_compare.png")
    return [*good("--overwrite", "--compare")(tmp_path), "x_upscale_compare.png"]


def broken_link(tmp_path):
    (tmp_path / "x.png").symlink_to("nowhere.png")
    return ["x.png"]


def floating(tmp_path):
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "x.tif")
    return ["x.tif"]


def no_folder(tmp_path):
    (tmp_path / "out").write_text("a file")
    return good("-o", "out")(tmp_path)


BAD = {
    "not a picture": (made("x.jpg", b"text"), 1, "x.jpg: no picture that can be read, whatever its name says"),
    "empty file": (made("x.png"), 1, "x.png: empty file"),
    "cut short": (cut_short, 1, "x.jpg: "),
    "not a bitmap": (made("x.bmp", b"text"), 1, "x.bmp: no picture that can be read, whatever its name says"),
    "its own result": (its_own_result, 1, "x.png: its result would be the picture itself"),
    "floating point": (floating, 1, "x.tif: float pixels: expected 8 or 16 bits a channel"),
    "a bomb": (good("--max-megapixels", "0.001"), 1, "47x33 is 0.00155 megapixels, more than --max-megapixels 0.001"),
    "output is a file": (no_folder, 2, "out: no results can be written there (File exists): name another with -o"),
    "output is below a file": (below_a_file, 2, "out/in: no results can be written there (Not a directory)"),
    "a result that is named": (
        named_result,
        2,
        "x_upscale.png is named as a picture, and would be the result of x.png",
    ),
    "a result that is named by another way": (named_by_another_way, 2, "x_upscale.png is named as a picture"),
    "a comparison that is named": (named_comparison, 2, "x_upscale_compare.png is named as a picture"),
    "a user that is none": (lambda tmp_path: ["~nobody-is-called-so/x.png"], 2, "no such file or folder"),
    "nothing": (lambda tmp_path: ["--run", "x", "--"], 2, "name a picture, a folder of pictures, or a pattern"),
    "a network for nothing": (good("--sr-run", "x"), 2, "--sr-run is for --mode restore"),
    "saturation of nothing": (good("--saturation", "2"), 2, "are for colours: give --mode colorize or restore"),
    "no such file": (lambda tmp_path: ["nowhere.png"], 2, "nowhere.png: no such file or folder, and as a pattern"),
    "pattern of nothing": (lambda tmp_path: ["*.png"], 2, "as a pattern it matches no file"),
    "a link to nothing": (broken_link, 2, "x.png: no such file or folder"),
    "folder without pictures": (lambda tmp_path: ["."], 2, ".: no picture in this folder; known are .jpg"),
    "one name for two": (two_of_one_name, 2, "would both become out/x_upscale.png: give them different names"),
    "no network": (good("--run", "srcolor/nothing"), 2, "srcolor/nothing: no such network comes with srcolor"),
    "no run": (good("--run", "runs/nowhere"), 2, "runs/nowhere: no such run folder or checkpoint file"),
    "the wrong kind": (
        good("--mode", "colorize"),
        2,
        "Bicubic is no network for this: expected one from gray to colour",
    ),
    "sizes without a sheet": (good("-m", "colorize", "--render-size", "48,64"), 2, "several sizes are for --sheet"),
    "sizes that are none": (good("--render-size", "large"), 2, "expected whole numbers"),
    "a sheet of sizes": (good("--sheet"), 2, "--sheet shows colours beside each other: give --mode colorize"),
    "a mode that is none": (good("--mode", "sharpen"), 2, "invalid choice: 'sharpen'"),
    "negative saturation": (good("-m", "colorize", "--saturation", "-1"), 2, "expected a number from 0 on"),
    "no saturation": (good("-m", "colorize", "--saturation", "nan"), 2, "expected a number from 0 on"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named_and_the_way_out_said(name, bicubic, tmp_path, monkeypatch, capsys):
    make, code, message = BAD[name]
    monkeypatch.chdir(tmp_path)
    words = make(tmp_path)
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    try:
        ended = predict.main([*words, *([] if "--run" in words else ["--run", bicubic])])
    except SystemExit as end:
        ended = end.code
    told = capsys.readouterr()
    assert ended == code
    assert message in told.out + told.err
    assert "Traceback" not in told.err
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_full_disk_leaves_nothing(bicubic, tmp_path, monkeypatch, capsys):
    SMALL.save(tmp_path / "x.png")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    assert predict.main([str(tmp_path / "x.png"), "--run", bicubic]) == 1
    assert re.search(r"x_upscale\.png, where [\d,]+ MB are free \(.*No space left on device", capsys.readouterr().out)
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


def test_a_picture_that_fails_in_an_unexpected_way_does_not_stop_the_others(bicubic, tmp_path, monkeypatch, capsys):
    for name in ("a.png", "b.png", "c.png"):
        SMALL.save(tmp_path / name)
    whole = pictures.read

    def read(path, most):
        if path.name == "b.png":
            raise ValueError("a reader's own")
        return whole(path, most)

    monkeypatch.setattr(pictures, "read", read)
    assert predict.main([str(tmp_path), "--run", bicubic]) == 1
    assert capsys.readouterr().out == f"2 made, 1 failed:\n  {tmp_path / 'b.png'}: ValueError: a reader's own\n"


def test_names_that_look_like_something_else(bicubic, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["-dash.png", "~tilde.png", "a b.png", "[x].png", "é\n.png", "x" * 240 + ".png", "*.png"]
    for name in names:
        SMALL.save(tmp_path / name)
    assert predict.main(["-o", "out", "--run", bicubic, "--", *names]) == 0
    assert len(list((tmp_path / "out").iterdir())) == len(names)


def test_what_a_shell_makes_of_a_pattern_is_the_same_the_second_time(bicubic, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        SMALL.save(tmp_path / name)
    for told in ("2 made\n", "0 made, 2 there already (--overwrite makes them anew)\n"):
        assert predict.main([*map(str, sorted(tmp_path.glob("*.png"))), "--run", bicubic]) == 0
        assert capsys.readouterr().out == told


def test_a_bitmap_of_another_name_is_read(bicubic, tmp_path):
    SMALL.save(tmp_path / "x.bmp", dpi=(300, 300))
    (tmp_path / "y.png").write_bytes((tmp_path / "x.bmp").read_bytes())
    assert predict.main([str(tmp_path), "--run", bicubic]) == 0
    with Image.open(tmp_path / "x_upscale.bmp") as one, Image.open(tmp_path / "y_upscale.png") as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert one.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_picture_is_upright_whatever_its_xmp_said(bicubic, tmp_path):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="t"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x112] = 6
    SMALL.save(tmp_path / "x.jpg", exif=exif, xmp=xmp)
    assert predict.main([str(tmp_path / "x.jpg"), "--run", bicubic]) == 0
    with Image.open(tmp_path / "x_upscale.jpg") as result:
        assert result.size == (66, 94)
        assert result.getexif()[0x112] == 1
        assert b'tiff:Orientation="1" dc:title="t"' in result.info["xmp"]


def test_of_an_animated_png_too_the_first_frame_is_taken_and_that_is_said(bicubic, tmp_path, capsys):
    frames = [SMALL, SMALL.transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert predict.main([str(tmp_path / "a.png"), "--run", bicubic]) == 0
    assert "a.png: the first of several frames" in capsys.readouterr().err


def test_the_description_of_a_tiff_stays(bicubic, tmp_path):
    SMALL.save(tmp_path / "x.tif", description="a day at the lake")
    assert predict.main([str(tmp_path / "x.tif"), "--run", bicubic]) == 0
    with Image.open(tmp_path / "x_upscale.tif") as result:
        assert result.tag_v2[270] == "a day at the lake"


def test_names_are_no_markup(colour, tmp_path, capsys):
    (tmp_path / "q[").mkdir()
    SMALL.save(tmp_path / "q[" / "b].png")
    assert predict.main([str(tmp_path), "--run", colour, "-m", "colorize"]) == 0
    assert "q[/b].png: in colour" in capsys.readouterr().err


def test_a_bitmap_of_more_than_pillow_takes_is_refused_by_our_own_limit(bicubic, tmp_path, capsys):
    SMALL.save(tmp_path / "x.bmp")
    content = bytearray((tmp_path / "x.bmp").read_bytes())
    content[18:26] = (20_000).to_bytes(4, "little") + (15_000).to_bytes(4, "little")
    (tmp_path / "x.bmp").write_bytes(content)
    assert predict.main([str(tmp_path / "x.bmp"), "--run", bicubic]) == 1
    assert "20000x15000 is 300 megapixels, more than --max-megapixels 250" in capsys.readouterr().out


def test_resolution_and_kind_of_a_tiff_stay(bicubic, tmp_path):
    SMALL.save(tmp_path / "x.tif", dpi=(300, 300))
    SMALL.save(tmp_path / "x.png", dpi=(300, 300))
    assert predict.main([str(tmp_path), "--run", bicubic]) == 0
    for suffix in (".tif", ".png"):
        with Image.open(tmp_path / f"x_upscale{suffix}") as result:
            assert result.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert (tmp_path / "x_upscale.tif").read_bytes()[:4] == b"II*\0"  # no BigTIFF


def test_a_gray_picture_stays_gray_with_its_profile_and_a_coloured_one_loses_it(bicubic, colour, tmp_path):
    profile = PROFILE[:16] + b"GRAY" + PROFILE[20:]  # its header's colour space
    SMALL.convert("L").save(tmp_path / "x.png", icc_profile=profile)
    assert predict.main([str(tmp_path / "x.png"), "--run", bicubic]) == 0
    assert predict.main([str(tmp_path / "x.png"), "--run", colour, "-m", "colorize"]) == 0
    with Image.open(tmp_path / "x_upscale.png") as larger, Image.open(tmp_path / "x_colorize.png") as coloured:
        assert (larger.mode, larger.info.get("icc_profile")) == ("L", profile)
        assert (coloured.mode, coloured.info.get("icc_profile")) == ("RGB", None)
        expected = tiles.enlarge(Bicubic(), np.asarray(SMALL.convert("L").convert("RGB")))[..., 0]
        np.testing.assert_array_equal(np.asarray(larger), expected)


def test_the_thumbnail_of_the_old_picture_does_not_stay(bicubic, tmp_path):
    SMALL.resize((16, 16)).save(tmp_path / "small.jpg")
    image = pyvips.Image.new_from_array(np.asarray(SMALL))
    image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Make", "a maker")
    image.set_type(pyvips.GValue.blob_type, "jpeg-thumbnail-data", (tmp_path / "small.jpg").read_bytes())
    image.write_to_file(str(tmp_path / "x.jpg"))
    assert pyvips.Image.new_from_file(str(tmp_path / "x.jpg")).get_typeof("jpeg-thumbnail-data")
    assert predict.main([str(tmp_path / "x.jpg"), "--run", bicubic]) == 0
    result = pyvips.Image.new_from_file(str(tmp_path / "x_upscale.jpg"))
    assert not result.get_typeof("jpeg-thumbnail-data")
    assert result.get("exif-ifd0-Make").startswith("a maker")


def test_a_name_that_is_not_utf8_is_told(bicubic, tmp_path):
    name = os.fsdecode(b"\xff\xe9.png")
    try:
        SMALL.save(tmp_path / name)
    except OSError:  # macOS's file system takes UTF-8 only
        pytest.skip("no such names here")
    SMALL.save(tmp_path / "x.png")
    command = [COMMAND, str(tmp_path), "--run", bicubic]
    done = subprocess.run(command, capture_output=True, timeout=100, env=os.environ | {"PYTHONUTF8": "1"})
    assert done.returncode == 1
    assert "1 made, 1 failed" in done.stdout.decode()
    assert "\ufffd\ufffd.png: its name, or its folder's, is not in UTF-8: rename it" in done.stdout.decode()
    assert not done.stderr


def test_the_transparency_of_a_bitmap_is_said_to_be_left_out(bicubic, tmp_path, capsys):
    header = b"BM" + (138 + 16).to_bytes(4, "little") + bytes(4) + (138).to_bytes(4, "little")
    header += (124).to_bytes(4, "little") + (2).to_bytes(4, "little") * 2 + b"\1\0" + b"\x20\0"
    header += (3).to_bytes(4, "little") + (16).to_bytes(4, "little") + bytes(16)  # bit fields
    header += b"".join((255 << shift).to_bytes(4, "little") for shift in (16, 8, 0, 24)) + b"BGRs" + bytes(64)
    (tmp_path / "x.bmp").write_bytes(header + bytes([10, 20, 30, 128] * 4))
    assert predict.main([str(tmp_path / "x.bmp"), "--run", bicubic]) == 0
    assert "x.bmp: its transparency is left out" in capsys.readouterr().err
    assert Image.open(tmp_path / "x_upscale.bmp").getpixel((0, 0)) == (30, 20, 10)


def test_a_large_result_lies_in_a_file_and_a_full_disk_is_an_error(bicubic, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict, "LARGE", 1)
    SMALL.save(tmp_path / "x.png")
    assert predict.main([str(tmp_path / "x.png"), "--run", bicubic]) == 0
    whole = tiles.enlarge(Bicubic(), np.asarray(SMALL))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "x_upscale.png")), whole)
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(full), raising=False)
    assert predict.main([str(tmp_path / "x.png"), "--run", bicubic, "--overwrite"]) == 1
    assert "x.png: [Errno 28] No space left on device" in capsys.readouterr().out


def test_a_damaged_tiff_is_no_picture(bicubic, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "x.tif", compression="tiff_deflate")
    content = bytearray((tmp_path / "x.tif").read_bytes())
    half = len(content) // 2
    content[half : half + 3000] = bytes(3000)
    (tmp_path / "x.tif").write_bytes(content)
    assert predict.main([str(tmp_path / "x.tif"), "--run", bicubic]) == 1
    assert not (tmp_path / "x_upscale.tif").exists()


def test_the_most_megapixels_may_be_raised(bicubic, tmp_path):
    SMALL.save(tmp_path / "x.png")
    assert pictures.read(tmp_path / "x.png", 0.01).shape == (33, 47, 3)
