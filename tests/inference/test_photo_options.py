"""The options of srcolor-predict for photographs: factors, formats, repair, contrast, toned prints, self-ensemble."""

import io

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image
from skimage import data

from srcolor import bundled, runs
from srcolor.inference import image_files, predict, tiles
from srcolor.inference.modes import base, restore
from srcolor.inference.torch_engine import TorchEngine
from srcolor.nets.bicubic import Bicubic
from srcolor.nets.ensemble import Ensemble

PHOTO = data.coffee()[100:160, 150:230]


@pytest.fixture
def photo(tmp_path):
    Image.fromarray(PHOTO).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(*arguments):
    try:
        return predict.main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


def result(photo, name="a_upscale.png"):
    return np.asarray(Image.open(photo.parent / name)).astype(int)


# -- --scale -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "network", "size"),
    [
        (1.5, "sr_x2_small", (120, 90)),
        (2, "sr_x2_small", (160, 120)),
        (3, "sr_x4", (240, 180)),
        (4, "sr_x4", (320, 240)),
    ],
)
def test_scale_chooses_the_smallest_sufficient_network_and_reduces_its_result(scale, network, size, photo):
    assert run(photo, "--scale", scale) == 0
    engine = TorchEngine(runs.load_net(f"srcolor/{network}"))
    large = image_files.to_image(tiles.enlarge(engine, PHOTO))
    expected = np.asarray(Image.fromarray(large.numpy()).resize(size, Image.Resampling.LANCZOS)).astype(int)
    assert result(photo).shape == expected.shape
    assert np.abs(result(photo) - expected).mean() < 1


@pytest.mark.parametrize("options", [[], ["--compare"]])
def test_a_fractional_size_is_rounded_and_16_bits_gray_and_alpha_survive(options, tmp_path):
    band = pyvips.Image.new_from_array(PHOTO[:33, :47, 0].astype(np.uint16) * 257).copy(interpretation="grey16")
    band.bandjoin(band).copy(interpretation="grey16").write_to_file(str(tmp_path / "a.png"))
    assert run(tmp_path / "a.png", "--scale", 1.3, *options) == 0
    image = pyvips.Image.new_from_file(str(tmp_path / "a_upscale.png"))
    assert (image.width, image.height, image.bands, image.format) == (61, 43, 2, "ushort")
    if options:
        assert Image.open(tmp_path / "a_upscale_compare.png").size == (2 * 61, 43)


BAD_SCALES = {
    "1": (["--scale", "1"], "--scale 1: expected a number over 1"),
    "not a number": (["--scale", "nan"], "--scale nan: expected a number over 1"),
    "more than the network": (
        ["--scale", "3", "--run", "srcolor/sr_x2"],
        "--scale 3: srcolor/sr_x2 enlarges 2 times at most. Use srcolor/sr_x4",
    ),
    "more than any": (
        ["--scale", "5"],
        "--scale 5: expected at most 4. Enlarge the result once more",
    ),
    "another mode": (["--scale", "2", "-m", "colorize"], "--scale requires --mode upscale or restore"),
    "no lossy format": (["--quality", "9", "--format", "png"], "--quality requires a lossy format"),
    "quality": (["--quality", "0"], "--quality 0: expected a number from 1 to 100"),
    "repair": (["-m", "restore", "--repair", "2"], "--repair 2: expected a number from 0 to 1"),
    "two repairs": (
        ["-m", "restore", "--repair", "1", "--clean-run", "x"],
        "--clean-run replaces the network of --repair: pass one of them",
    ),
}


@pytest.mark.parametrize("name", BAD_SCALES)
def test_invalid_options_are_refused_in_one_line(name, photo, capsys):
    arguments, message = BAD_SCALES[name]
    assert run(photo, *arguments) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert [file.name for file in photo.parent.iterdir()] == ["a.png"]


# -- --format ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "suffix", "kind"),
    [("jpg", ".jpg", "JPEG"), ("png", ".png", "PNG"), ("webp", ".webp", "WEBP"), ("tiff", ".tif", "TIFF")],
)
def test_format_determines_the_file(name, suffix, kind, photo):
    assert run(photo, "--format", name) == 0
    with Image.open(photo.parent / f"a_upscale{suffix}") as image:
        assert (image.format, image.size) == (kind, (160, 120))


def test_avif_is_written_and_read(photo):
    assert run(photo, "--format", "avif", "--quality", 95) == 0
    avif = photo.parent / "a_upscale.avif"
    written = image_files.read(avif, 1)
    assert run(photo) == 0
    assert np.abs(written[0:120, 0:160].astype(int) - result(photo)).mean() < 3
    assert run(avif, "--overwrite") == 0
    assert image_files.read(photo.parent / "a_upscale_upscale.avif", 1).shape == (240, 320, 3)


def test_a_lower_quality_gives_a_smaller_file(photo):
    sizes = []
    for quality in (30, 95):
        assert run(photo, "--format", "webp", "--quality", quality, "--overwrite") == 0
        sizes.append((photo.parent / "a_upscale.webp").stat().st_size)
    assert sizes[0] < sizes[1] / 2


def test_what_a_format_cannot_store_is_said(tmp_path, capsys):
    rgba = np.dstack([PHOTO, PHOTO[..., :1]]).astype(np.uint16) * 257
    image = pyvips.Image.new_from_array(rgba).copy(interpretation="rgb16")
    image.write_to_file(str(tmp_path / "a.png"))
    assert run(tmp_path / "a.png", "--format", "jpg") == 0
    said = capsys.readouterr().err
    assert "a.png: 16 bits per channel become 8 in .jpg" in said
    assert "a.png: transparency dropped: .jpg has none" in said
    assert run(tmp_path / "a.png", "--format", "png") == 0
    as_png = pyvips.Image.new_from_file(str(tmp_path / "a_upscale.png"))
    assert (as_png.format, as_png.bands) == ("ushort", 4)
    as_jpeg = np.asarray(Image.open(tmp_path / "a_upscale.jpg")).astype(int)
    assert np.abs(as_jpeg - as_png.numpy()[..., :3] // 257).mean() < 3


def test_results_of_another_format_are_not_processed_again(photo, capsys):
    assert run(photo.parent, "--format", "jpg") == 0
    assert run(photo.parent, "--format", "jpg") == 0
    assert {file.name for file in photo.parent.iterdir()} == {"a.png", "a_upscale.jpg"}
    assert "0 written, 1 skipped" in capsys.readouterr().out


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_refused_with_what_converts_it(brand, tmp_path, capsys):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(100))
    assert run(tmp_path) == 1
    assert "a.heic: HEIC is not supported. Convert it to JPEG or PNG, e.g. with heif-convert" in capsys.readouterr().out


# -- --mode restore ------------------------------------------------------------------------------------------------


@pytest.fixture
def worn(tmp_path):
    """A photograph with noise, and the same without."""
    pixels = data.rocket()[150:278, 220:380]
    noise = np.random.default_rng(0).normal(0, 12, pixels.shape[:2])[..., None]
    for name, image in (("clean", pixels), ("worn", np.clip(pixels + noise, 0, 255).astype(np.uint8))):
        Image.fromarray(image).convert("L").save(tmp_path / f"{name}.png")
    return tmp_path


def error(folder, name):
    truth = Image.open(folder / "clean.png").resize((320, 256), Image.Resampling.BICUBIC)
    image = Image.open(folder / f"{name}_restore.png").convert("L")
    return np.sqrt(np.mean((np.asarray(image, float) - np.asarray(truth, float)) ** 2))


def test_only_worn_photographs_are_repaired(worn, capsys):
    assert run(worn, "-m", "restore") == 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert "clean.png: noise" in said
    assert said.count(": not repaired") == 1
    assert said.count(": repaired, --repair 1") == 1
    automatic = error(worn, "worn")
    assert run(worn / "worn.png", "-m", "restore", "--repair", "0", "--overwrite") == 0
    assert automatic < 0.8 * error(worn, "worn")


def test_repair_blends_with_the_input():
    engine = base.engine(restore.REPAIR, base.CLEAN)
    restored = tiles.enlarge(engine, PHOTO).astype(float)
    half = tiles.enlarge(restore.Partly(engine, 0.5), PHOTO)
    assert np.abs(half - (PHOTO + restored) / 2).max() <= 0.5


def test_autocontrast_stretches_faded_photographs_only(tmp_path, capsys):
    luma = np.asarray(Image.fromarray(data.chelsea()[:96, :128]).convert("L"), float)
    full = np.interp(luma, np.percentile(luma, [0.5, 99.5]), [0, 255])
    for name, pixels in (("full", full), ("faded", 100 + 0.3 * full)):
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(tmp_path / f"{name}.png")
    assert run(tmp_path, "-m", "restore", "--repair", "0", "--autocontrast") == 0
    said = capsys.readouterr().err.replace("\n", " ")
    assert said.count(": stretched") == 1
    assert said.count(": not stretched") == 1
    for name in ("full", "faded"):
        image = Image.open(tmp_path / f"{name}_restore.png").convert("L").resize((128, 96), Image.Resampling.BOX)
        assert np.abs(np.asarray(image, float) - full).mean() < 8


def test_a_sepia_print_is_recognized(tmp_path, capsys):
    gray = np.asarray(Image.fromarray(data.chelsea()[:64, :64]).convert("L"), float)
    sepia = np.clip(gray[..., None] * [1.07, 0.9, 0.65] + [20, 15, 5], 0, 255).astype(np.uint8)
    for name, pixels in (("sepia", sepia), ("color", data.astronaut()[::8, ::8])):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    assert run(tmp_path, "-m", "colorize") == 0
    said = capsys.readouterr().err
    assert "sepia.png: toned, as sepia prints are; treated as gray" in said
    assert "color.png: has color; treated as gray" in said


# -- --ensemble ----------------------------------------------------------------------------------------------------


def test_ensemble_is_the_mean_over_flips_and_rotations(photo):
    assert run(photo, "--ensemble") == 0
    net = runs.load_net("srcolor/sr_x2_small")
    outputs = []
    for turns in range(4):
        for flip in (False, True):
            image = np.rot90(PHOTO[:, ::-1] if flip else PHOTO, turns).copy()
            with torch.inference_mode():
                output = net(torch.from_numpy(image).permute(2, 0, 1)[None] / 255)[0].permute(1, 2, 0).numpy()
            output = np.rot90(output, -turns)
            outputs.append(output[:, ::-1] if flip else output)
    expected = np.rint(np.clip(np.mean(outputs, 0), 0, 1) * 255)
    assert np.abs(result(photo) - expected).max() <= 2  # bfloat16, where it is fast
    assert Ensemble(Bicubic()).scale == 2


def test_the_bundled_networks_of_the_default_factors_exist():
    assert {"sr_x2_small", "sr_x4", "restore"} <= set(bundled.names())


def test_jpeg_blocks_are_repaired(tmp_path, capsys):
    buffer = io.BytesIO()
    Image.fromarray(data.astronaut()[:128, 150:310]).convert("L").save(buffer, "JPEG", quality=30)
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert run(tmp_path / "a.jpg", "-m", "restore") == 0
    assert ": repaired" in capsys.readouterr().err.replace("\n", " ")
