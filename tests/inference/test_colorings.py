"""srcolor-predict: samples, tint and reference."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from srcolor import images
from srcolor.color_code import color_code
from srcolor.inference import colorings, image_files, predict
from srcolor.nets.unet_codes import UNetCodes

PHOTO = (
    Image.fromarray(data.astronaut()).resize((96, 64)).point(lambda value: 90 + 0.3 * value)
)  # sRGB has any hue here
COLORIZE = ["-m", "colorize"]


@pytest.fixture
def photo(tmp_path):
    PHOTO.convert("L").save(tmp_path / "a.png")
    return tmp_path / "a.png"


def run(photo, *arguments):
    """Run the command, and return the result as an array; also that of an earlier call, replaced."""
    assert predict.main([str(photo), *COLORIZE, "--overwrite", *arguments]) == 0
    ending = "sheet" if {"--samples", "--sheet"} & set(arguments) else "colorize"
    return image_files.read(photo.with_stem(f"{photo.stem}_{ending}"), 250).reduced(1)


def code(pixels):
    """Return the code of an image as two arrays."""
    rgb = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None] / 255
    mean, covariance = color_code(images.rgb_to_lab(rgb)[:, 1:])
    return mean[0].numpy(), covariance[0].numpy()


def assert_same_pixels(one, other):
    """Compare the results of two computations: within 1/255."""
    np.testing.assert_allclose(one.astype(int), other.astype(int), rtol=0, atol=1)


def luma_error(result):
    gray = np.asarray(PHOTO.convert("L"), float)
    return np.abs(result.astype(float) @ [0.299, 0.587, 0.114] - gray).max()


def test_a_sheet_shows_the_coloring_that_pick_writes(codes, photo):
    sheet = run(photo, "--run", codes, "--samples", "6")
    assert sheet.shape == (2 * 64 + colorings.GAP, 4 * 96 + 3 * colorings.GAP, 3)
    picked = {number: run(photo, "--run", codes, "--pick", str(number)) for number in (2, 6)}
    for number, (row, column) in {2: (0, 1), 6: (1, 1)}.items():
        top, left = row * (64 + colorings.GAP), column * (96 + colorings.GAP)
        shown = sheet[top : top + 64, left : left + 96]
        assert_same_pixels(shown[20:], picked[number][20:])  # below the number
        assert (shown[:12, :8] != picked[number][:12, :8]).any()  # the number
    assert np.abs(picked[2].astype(int) - picked[6]).mean() > 2
    assert max(luma_error(result) for result in picked.values()) < 1


@pytest.mark.parametrize("number", [1, 2])
def test_the_sheet_of_a_large_picture_has_the_colors_of_the_result(number, codes, photo):
    """The network sees 600 pixels, more than the sheet has."""
    PHOTO.convert("L").resize((600, 900)).save(photo)
    options = ["--run", codes, "--render-size", "600"]
    sheet, pick = (["--sheet"], []) if number == 1 else (["--samples", "2"], ["--pick", "2"])
    shown = run(photo, *options, *sheet)[40:, -341:]
    run(photo, *options, *pick)
    result = image_files.read(photo.with_stem("a_colorize"), 250).reduced(512 / 900)[40:]
    assert np.abs(shown.astype(float) - result).mean() < 0.3


def test_each_sample_of_a_sheet_is_computed_once(codes, photo, monkeypatch):
    colored, original = [], UNetCodes._colored
    monkeypatch.setattr(UNetCodes, "_colored", lambda net, *inputs: colored.append(1) or original(net, *inputs))
    run(photo, "--run", codes, "--samples", "9")
    assert len(colored) == 9


def test_16_bits(codes, photo):
    gray = np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257
    Image.fromarray(gray).save(photo)
    sheet = run(photo, "--run", codes, "--samples", "2")
    picked = run(photo, "--run", codes, "--pick", "2")
    assert (sheet.dtype, picked.dtype) == (np.uint8, np.uint16)
    assert_same_pixels(sheet[20:, -96:], (picked >> 8)[20:])


@pytest.mark.parametrize("size", [(16_000, 30), (3, 2_000)])
@pytest.mark.parametrize("sheet", [["--samples", "5"], ["--sheet", "--render-size", "8,9,10,11,12"]])
def test_a_sheet_of_a_panorama_can_be_written(sheet, size, codes, photo):
    photo = photo.with_suffix(".webp")  # at most 16,383 pixels wide
    PHOTO.convert("L").resize(size).save(photo)
    sheet = run(photo, "--run", codes, *sheet)
    assert sheet.shape[1] <= 16_000
    assert sheet.shape[0] <= 1_028


def test_the_remark_repeats_what_pick_needs(codes, photo, capsys):
    options = ["--temperature", "0.5", "--render-size", "48", "--tint", "-5,10", "--saturation", "1.2"]
    run(photo, "--run", codes, "--samples", "2", *options)
    repeated = f"--run={codes} --render-size=48 --temperature=0.5 --tint=-5,10 --saturation=1.2"
    assert f"sheet of 2 colorings; --pick NUMBER {repeated} writes one at full size\n" in capsys.readouterr().err
    sheet = run(photo, "--run", codes, "--samples", "2", *options)
    picked = run(photo, "--pick", "2", *repeated.split())
    assert_same_pixels(sheet[20:, -96:], picked[20:])


def test_a_pick_is_compared(codes, photo):
    picked = run(photo, "--run", codes, "--pick", "2", "--compare")
    compared = np.asarray(Image.open(photo.with_stem("a_colorize_compare")))
    np.testing.assert_array_equal(compared[:, 96:], picked)
    np.testing.assert_array_equal(compared[:, :96, 0], np.asarray(PHOTO.convert("L")))


def test_samples_repeat_and_temperature_0_is_the_default(codes, photo):
    stable = run(photo, "--run", codes)
    assert_same_pixels(run(photo, "--run", codes, "--pick", "5", "--temperature", "0"), stable)
    first = run(photo, "--run", codes, "--pick", "5")
    np.testing.assert_array_equal(run(photo, "--run", codes, "--pick", "5"), first)
    near = run(photo, "--run", codes, "--pick", "5", "--temperature", "0.2")
    distances = [np.abs(one.astype(int) - stable).mean() for one in (near, first)]
    assert 0 < distances[0] < 0.5 * distances[1]


def test_a_tint_sets_the_mean_color(codes, photo):
    for text, wanted in (("warm", (12, 21)), ("cool", (8, 5)), ("4,-9", (4, -9)), ("-5,10", (-5, 10))):
        result = run(photo, "--run", codes, "--tint", text)
        np.testing.assert_allclose(code(result)[0], wanted, atol=2.5)  # sRGB lacks some of the colors
        assert luma_error(result) < 1


def test_a_reference_gives_its_palette(codes, photo, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    reference = Image.fromarray(data.coffee()).resize((160, 120)).point(lambda value: 90 + 0.3 * value)
    reference.save(tmp_path / "other.png")
    result = run(photo, "--run", codes, "--reference=~/other.png")
    wanted = code(np.asarray(reference))
    np.testing.assert_allclose(code(result)[0], wanted[0], atol=1)
    np.testing.assert_allclose(code(result)[1], wanted[1], rtol=0.15, atol=1)
    assert luma_error(result) < 1


def test_tint_and_reference_apply_to_a_network_without_codes(color, photo, tmp_path):
    Image.fromarray(data.coffee()).save(tmp_path / "other.png")
    warm, cool = (run(photo, "--run", color, "--tint", tint) for tint in ("12,30", "12,-30"))
    assert code(warm)[0][1] > 10 + code(cool)[0][1]
    other = run(photo, "--run", color, "--reference", str(tmp_path / "other.png"))
    assert (other != run(photo, "--run", color)).any()
    assert max(map(luma_error, (warm, cool, other))) < 1


def test_the_choice_reaches_the_mode_restore(codes, bicubic, photo):
    arguments = [str(photo), "-m", "restore", "--run", codes, "--sr-run", bicubic]
    assert predict.main([*arguments, "--pick", "2"]) == 0
    small = run(photo, "--run", codes, "--pick", "2")
    large = np.asarray(Image.open(photo.with_stem("a_restore")))
    blocks = large.reshape(64, 2, 96, 2, 3).mean((1, 3))
    assert np.abs(blocks - small).mean() < 2


BAD = {
    "samples of one coloring": (["--samples", "4"], "UNetRGB offers a single coloring: --samples and --pick require"),
    "pick of one coloring": (["--pick", "4"], "UNetRGB offers a single coloring"),
    "no samples": (["--samples", "0"], "--samples 0: expected a number from 1 to 64"),
    "samples and pick": (["--samples", "4", "--pick", "1"], "cannot be combined with --pick"),
    "samples and compare": (["--samples", "4", "--compare"], "cannot be combined"),
    "temperature alone": (["--temperature", "0.5"], "--temperature requires --samples or --pick"),
    "samples with restore": (["-m", "restore", "--samples", "4"], "error: --samples requires --mode colorize, and"),
    "samples with upscale": (["-m", "upscale", "--samples", "4"], "error: --samples requires --mode colorize, and"),
    "sheet with pick": (["--sheet", "--pick", "1"], "--pick cannot be combined with --sheet, which shows the default"),
    "negative temperature": (["--pick", "1", "--temperature", "-1"], "expected a number from 0 to 3"),
    "temperature too high": (["--pick", "1", "--temperature", "3.1"], "--temperature 3.1: expected a number from 0"),
    "unknown tint": (["--tint", "blue"], "--tint blue: expected warm, neutral, cool, or a mean a* and b*"),
    "tint out of range": (["--tint", "500,0"], "expected a* and b* from -100 to 100"),
    "tint that is not a number": (["--tint", "1,nan"], "--tint 1,nan: expected a* and b* from -100 to 100"),
    "tint and reference": (["--tint", "warm", "--reference", "a.png"], "pass one of them"),
    "gray reference": (["--reference", "a.png"], "--reference a.png: this picture is gray"),
    "no reference": (["--reference", "b.png"], "error: --reference b.png: No such file or directory\n"),
    "reference cut short": (["--reference", "cut"], "error: --reference cut: damaged or truncated ("),
    "reference and pick": (["--reference", "a.png", "--pick", "1"], "--reference replaces the colors that --samples"),
    "reference and samples": (["--reference", "a.png", "--samples", "2"], "--reference replaces the colors"),
    "upscale": (["-m", "upscale", "--tint", "warm"], "--tint requires --mode colorize or restore"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_choices_name_the_cause(name, color, photo, monkeypatch, capsys):
    arguments, message = BAD[name]
    monkeypatch.chdir(photo.parent)
    if "cut" in arguments:
        Image.fromarray(data.astronaut()).save("whole", "JPEG")
        photo.with_name("cut").write_bytes(photo.with_name("whole").read_bytes()[:20_000])
        photo.with_name("whole").unlink()
    mode = [] if "-m" in arguments else COLORIZE
    try:
        returned = predict.main([str(photo), *mode, "--run", color, *arguments])
    except SystemExit as exit:
        returned = exit.code
    captured = capsys.readouterr().err
    assert returned == 2
    assert message in captured
    assert "Traceback" not in captured
    assert {file.name for file in photo.parent.iterdir()} <= {"a.png", "cut"}


def test_an_external_network_offers_no_samples(ddcolor, photo, capsys):
    assert predict.main([str(photo), *COLORIZE, "--run", ddcolor, "--pick", "1"]) == 2
    assert "SpandrelColor offers a single coloring" in capsys.readouterr().err
